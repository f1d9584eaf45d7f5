//! CDI files against the machine.

use ociforge_manifests::runtime::cdi::CdiFile;

use super::*;

#[test]
fn a_cdi_file_has_to_fit_the_machine() {
    const FILE: &str = "the CDI file /etc/cdi/nvidia.yaml does not fit this machine: ";
    const BAD: &str = "no container gets a GPU by it";
    const OLD: &str = " | sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml";
    const NEW: &str = " | sudo rm /etc/cdi/nvidia.yaml | sudo systemctl restart nvidia-cdi-refresh.service";
    let cases: [(Change, String); 8] = [
        (|_| {}, "ok CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/nvidia.yaml".into()),
        // the commonest: the driver was updated
        (
            |f| {
                f.gpus.driver = Some("560.35.03".parse().unwrap());
                absent(f, &["/usr/lib/libcuda.so.545.23.08", "/usr/lib/libnvidia-ml.so.545.23.08"]);
            },
            format!(
                "warn CDI spec: {FILE}the file /usr/lib/libcuda.so.545.23.08 is not there, and neither is \
                    /usr/lib/libnvidia-ml.so.545.23.08; it is for driver 545.23.08, and 560.35.03 is loaded: {BAD}{OLD}"
            ),
        ),
        (
            |f| {
                (f.gpus.ctk, f.gpus.systemd) = (Some(program("nvidia-ctk", "1.18.1")), true);
                f.gpus.driver = Some("560.35.03".parse().unwrap());
            },
            format!("warn CDI spec: {FILE}it is for driver 545.23.08, and 560.35.03 is loaded: {BAD}{NEW}"),
        ),
        // updated, and the old one still runs
        (
            |f| f.gpus.driver = Some("535.54.03".parse().unwrap()),
            format!(
                "warn CDI spec: {FILE}it is for driver 545.23.08, and 535.54.03 is loaded: CUDA will fail until the \
                    installed driver is loaded | sudo reboot"
            ),
        ),
        (
            |f| f.gpus.devices.clear(),
            format!("warn CDI spec: {FILE}the device node /dev/nvidia0 is not there: {BAD}{OLD}"),
        ),
        (
            |f| absent(f, &["/usr/bin/nvidia-cdi-hook"]),
            format!("warn CDI spec: {FILE}the hook /usr/bin/nvidia-cdi-hook is not there: {BAD}{OLD}"),
        ),
        (
            |f| {
                f.gpus.ctk = None;
                absent(f, &["/usr/bin/nvidia-cdi-hook"]);
            },
            format!(
                "warn CDI spec: {FILE}the hook /usr/bin/nvidia-cdi-hook is not there: {BAD} | sudo apt-get install \
                 nvidia-container-toolkit-base | sudo rm /etc/cdi/nvidia.yaml | sudo nvidia-ctk cdi generate \
                 --output=/var/run/cdi/nvidia.yaml"
            ),
        ),
        (
            |f| f.gpus.private = vec!["/etc/cdi/nvidia.yaml".into()],
            "warn CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/nvidia.yaml, which only root can read: containers of \
                others \
             get nothing by it | sudo chmod a+rX /etc/cdi/nvidia.yaml"
                .into(),
        ),
    ];
    for (change, expected) in cases {
        let mut facts = specified("545.23.08");
        change(&mut facts);
        let checks = judge(&facts);
        sound(&checks);
        let shown = lines(&checks);
        assert!(shown.contains(&expected), "{expected} in {shown:#?}");
        // Nothing else gets them in, and then that is said.
        let told = shown.iter().any(|line| line.starts_with("warn for containers: the CDI specification does not fit"));
        assert_eq!(told, expected.contains("does not fit") && facts.gpus.ctk.is_some(), "{shown:#?}");
    }
    // The hook serves in its place.
    let mut facts = specified("545.23.08");
    facts.gpus.hook = Some(program("nvidia-container-runtime-hook", "1.17.0"));
    facts.gpus.toolkit.no_cgroups = true;
    absent(&mut facts, &["/usr/bin/nvidia-cdi-hook"]);
    let shown = lines(&judge(&facts));
    let expected = "ok for containers: NVIDIA's hook; the CDI specification does not fit";
    assert!(shown.iter().any(|line| line == expected), "{shown:#?}");
}

#[test]
fn a_file_that_cannot_be_read_takes_no_other_away() {
    let mut facts = gpu();
    let unreadable = Err("Permission denied (os error 13)".to_owned());
    facts.gpus.cdi = CdiRegistry::load(vec![
        CdiFile { path: "/etc/cdi/a.yaml".into(), priority: 0, content: unreadable },
        CdiFile { path: "/etc/cdi/b.json".into(), priority: 0, content: Ok(b"{".into()) },
        CdiFile {
            path: "/etc/cdi/c.json".into(),
            priority: 0,
            content: Ok(file("nvidia.com/gpu", &["0"]).into_bytes()),
        },
    ]);
    let shown = lines(&judge(&facts));
    for line in [
        "ok CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/c.json",
        "warn CDI spec: the CDI file /etc/cdi/a.yaml is skipped: cannot read it: Permission denied (os error 13) | \
            sudo chmod a+rX /etc/cdi/a.yaml",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line} in {shown:#?}");
    }
    assert!(shown.iter().any(|line| line.starts_with("warn CDI spec: the CDI file /etc/cdi/b.json is skipped: ")));
}

#[test]
fn names_of_one_device_are_counted_once() {
    let node = |name: &str, nodes: &[&str]| {
        let nodes: Vec<_> = nodes.iter().map(|path| json!({"path": path})).collect();
        json!({"name": name, "containerEdits": {"deviceNodes": nodes}})
    };
    let gpus = [
        node("0", &["/dev/nvidia0"]),
        node("GPU-a", &["/dev/nvidia0"]),
        node("1", &["/dev/nvidia1"]),
        node("GPU-b", &["/dev/nvidia1"]),
        node("1:0", &["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap3"]),
        node("all", &["/dev/nvidia0", "/dev/nvidia1"]),
    ];
    for (devices, expected) in [(&gpus[..4], "2 devices"), (&gpus[..], "3 devices"), (&gpus[5..], "1 device")] {
        let text = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices}).to_string();
        let mut facts = gpu();
        facts.gpus.cdi = cdi(&[("n.json", &text)]);
        let fact = DeviceFacts { kind: DeviceNodeKind::Char, major: 195, minor: 0, mode: 0o666 };
        let paths = ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap3"];
        facts.gpus.devices = paths.into_iter().map(|path| (path.to_owned(), fact)).collect();
        let shown = lines(&judge(&facts));
        let line = format!("ok CDI spec: nvidia.com/gpu, {expected}, /etc/cdi/n.json");
        assert!(shown.contains(&line), "{line} in {shown:#?}");
    }
}

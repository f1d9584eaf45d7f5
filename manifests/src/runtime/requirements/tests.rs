use super::*;

fn driver(text: &str) -> Option<DriverVersion> {
    (!text.is_empty()).then(|| text.parse().unwrap())
}

/// What NVIDIA's image for CUDA 12.4 requires, cut short.
const CUDA_12_4: &str = "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=unknown,driver>=470,driver<471 \
                         brand=tesla,driver>=535,driver<536";

/// `yes`, `no`, `?`, or the part that is malformed.
#[test]
fn the_language() {
    for (requirement, version, expected) in [
        ("", "535.104.05", "yes"),
        (" ", "535.104.05", "yes"),
        (",", "535.104.05", "yes"),
        // operators
        ("cuda>=12.2", "535.104.05", "yes"),
        ("cuda>=12.3", "535.104.05", "no"),
        ("cuda>12.2", "535.104.05", "no"),
        ("cuda>12.1", "535.104.05", "yes"),
        ("cuda<12.2", "535.104.05", "no"),
        ("cuda<=12.2", "535.104.05", "yes"),
        ("cuda=12.2", "535.104.05", "yes"),
        ("cuda=12.2.0", "535.104.05", "yes"),
        ("cuda!=12.2", "535.104.05", "no"),
        ("cuda!=12", "535.104.05", "yes"),
        ("cuda!12.2", "535.104.05", "no"),
        ("driver>=535.104", "535.104.05", "yes"),
        ("driver>=535.104.06", "535.104.05", "no"),
        ("driver<536", "535.104.05", "yes"),
        ("DRIVER>=1", "535.104.05", "yes"),
        // and binds stronger than or
        ("cuda>=12.0,driver>=535", "535.104.05", "yes"),
        ("cuda>=12.0,driver>=540", "535.104.05", "no"),
        ("cuda>=13 driver>=535", "535.104.05", "yes"),
        ("cuda>=13,driver>=1 driver>=540 driver>=535,cuda>=12", "535.104.05", "yes"),
        ("cuda>=13  ,,driver>=535,,", "535.104.05", "yes"),
        // what is empty does not hold, and does not fail either
        ("cuda>=99 ,", "535.104.05", "no"),
        (", cuda>=99", "535.104.05", "no"),
        ("cuda>=99 , ,,", "535.104.05", "no"),
        ("cuda>=12 ,", "535.104.05", "yes"),
        ("brand=tesla ,", "535.104.05", "?"),
        ("cuda>=99 , nonsense", "535.104.05", "nonsense"),
        // what is not known here
        ("arch>=7.0", "535.104.05", "?"),
        ("brand=tesla", "535.104.05", "?"),
        ("brand!=GeForce", "535.104.05", "?"),
        ("cuda>=13 brand=tesla", "535.104.05", "?"),
        ("cuda>=12 brand=tesla", "535.104.05", "yes"),
        ("brand=tesla cuda>=12", "535.104.05", "yes"),
        ("brand=tesla,cuda>=13", "535.104.05", "no"),
        ("brand=tesla,cuda>=12", "535.104.05", "?"),
        ("cuda>=12", "", "?"),
        ("driver>=535", "", "?"),
        // NVIDIA's own
        (CUDA_12_4, "550.54.14", "yes"),
        (CUDA_12_4, "535.104.05", "?"),
        (CUDA_12_4, "470.57.02", "?"),
        (CUDA_12_4, "525.60.13", "no"),
        (CUDA_12_4, "", "?"),
        // drivers that are older or newer than what is known
        ("cuda>=12", "304.137", "?"),
        ("cuda>=13.3", "999", "yes"),
        ("cuda>=13.9", "999", "?"),
        ("cuda>13.3", "999", "?"),
        ("cuda>13.2", "999", "yes"),
        ("cuda<13.3", "999", "no"),
        ("cuda<14", "999", "?"),
        ("cuda=12", "999", "no"),
        // malformed, and reached
        ("cuda", "535.104.05", "cuda"),
        (">=12", "535.104.05", ">=12"),
        ("cuda>=", "535.104.05", "cuda>="),
        ("cuda==12", "535.104.05", "cuda==12"),
        ("cuda=>12", "535.104.05", "cuda=>12"),
        ("cuda>=12.x", "535.104.05", "cuda>=12.x"),
        ("cuda>=twelve", "", "cuda>=twelve"),
        ("arch>=volta", "535.104.05", "arch>=volta"),
        ("brand>tesla", "535.104.05", "brand>tesla"),
        ("gpu=1", "535.104.05", "gpu=1"),
        ("cuda >= 12", "535.104.05", "cuda"),
        ("cuda>=13 nonsense", "535.104.05", "nonsense"),
        ("cuda>=12,nonsense", "535.104.05", "nonsense"),
        // malformed, and not reached by the hook, or not for certain
        ("cuda>=12 nonsense", "535.104.05", "yes"),
        ("cuda>=13,nonsense", "535.104.05", "no"),
        ("brand=tesla nonsense", "535.104.05", "?"),
        ("brand=tesla,nonsense", "535.104.05", "?"),
    ] {
        let found = match holds(requirement, driver(version).as_ref()) {
            Ok(Some(true)) => "yes".to_owned(),
            Ok(Some(false)) => "no".to_owned(),
            Ok(None) => "?".to_owned(),
            Err(part) => part,
        };
        assert_eq!(found, expected, "{requirement} with {version:?}");
    }
}

fn says(env: &[(&str, &str)], version: &str) -> String {
    match check(env.iter().copied(), driver(version).as_ref()) {
        Ok(newer) => newer.map_or_else(String::new, |newer| newer.to_string()),
        Err(error) => format!("error: {error}; {}", error.hint().unwrap()),
    }
}

#[test]
fn images_and_drivers() {
    let off = "--env NVIDIA_DISABLE_REQUIRE=1 disables the check";
    for (env, version, expected) in [
        (&[("NVIDIA_REQUIRE_CUDA", CUDA_12_4)][..], "550.54.14", String::new()),
        (&[("NVIDIA_REQUIRE_CUDA", CUDA_12_4)], "", String::new()),
        (
            &[("NVIDIA_REQUIRE_CUDA", CUDA_12_4)],
            "525.60.13",
            format!(
                "error: the image needs `cuda>=12.4` or other drivers (NVIDIA_REQUIRE_CUDA), and driver 525.60.13 \
                    with CUDA 12.0 does not meet this requirement; install driver 550.54 or newer; {off}"
            ),
        ),
        (
            &[("NVIDIA_REQUIRE_CUDA", "cuda>=11.0"), ("NVIDIA_REQUIRE_DRIVER", "driver>=460.10")],
            "450.80.02",
            format!(
                "error: the image needs `driver>=460.10` (NVIDIA_REQUIRE_DRIVER), and driver 450.80.02 with CUDA 11.0 \
                    does not meet this requirement; install driver 460.10 or newer; {off}"
            ),
        ),
        (
            &[("NVIDIA_REQUIRE_X", "cuda>=99")],
            "550.54.14",
            format!(
                "error: the image needs `cuda>=99` (NVIDIA_REQUIRE_X), and driver 550.54.14 with CUDA 12.4 does not \
                    meet this requirement; install another driver; {off}"
            ),
        ),
        (
            &[("NVIDIA_REQUIRE_CUDA", "cuda>=12\u{1b}[2J")],
            "550.54.14",
            format!(
                "error: the image's NVIDIA_REQUIRE_CUDA has \"cuda>=12\\u{{1b}}[2J\", which is not a requirement; \
                    write comparisons such as cuda>=12.0 with --env NVIDIA_REQUIRE_CUDA=…; {off}"
            ),
        ),
        // what turns it off, and what does not
        (&[("NVIDIA_REQUIRE_CUDA", "cuda>=99"), ("NVIDIA_DISABLE_REQUIRE", "1")], "550.54.14", String::new()),
        (&[("NVIDIA_REQUIRE_CUDA", "nonsense"), ("NVIDIA_DISABLE_REQUIRE", "true")], "550.54.14", String::new()),
        (&[("NVIDIA_REQUIRE_JETPACK", "csv-mounts=all")], "550.54.14", String::new()),
        (&[("NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS", "x")], "550.54.14", String::new()),
        (&[("NVIDIA_REQUIRE_CUDA", "")], "550.54.14", String::new()),
        // images of the first generation
        (&[("CUDA_VERSION", "8.0.61")], "550.54.14", String::new()),
        (
            &[("CUDA_VERSION", "12.3.2.001")],
            "535.104.05",
            format!(
                "error: the image needs `cuda>=12.3` (CUDA_VERSION), and driver 535.104.05 with CUDA 12.2 does not \
                    meet this requirement; install driver 545.23 or newer; {off}"
            ),
        ),
        // NVIDIA's training images: the requirement says nothing, the version does
        (
            &[
                ("CUDA_VERSION", "12.3.2.001"),
                ("CUDA_DRIVER_VERSION", "545.23.08"),
                ("NVIDIA_REQUIRE_CUDA", "cuda>=9.0"),
                ("LD_LIBRARY_PATH", "/usr/local/cuda/compat/lib:/usr/local/nvidia/lib"),
            ],
            "535.104.05",
            "the image's CUDA 12.3 is newer than CUDA 12.2, the newest of driver 535.104.05; driver 545.23.08 has it; \
                programs that need no new feature of CUDA 12 run; on data centre GPUs the image's \
                /usr/local/cuda/compat compensates for that"
                .into(),
        ),
        (
            &[("CUDA_VERSION", "11.8.0.065"), ("NVIDIA_REQUIRE_CUDA", "cuda>=9.0")],
            "470.57.02",
            "the image's CUDA 11.8 is newer than CUDA 11.4, the newest of driver 470.57.02; driver 520.61 has it; \
                programs that need no new feature of CUDA 11 run"
                .into(),
        ),
        (
            &[("CUDA_DRIVER_VERSION", "545.23.08"), ("NVIDIA_REQUIRE_CUDA", "cuda>=9.0")],
            "535.104.05",
            "the image's CUDA 12.3 is newer than CUDA 12.2, the newest of driver 535.104.05; driver 545.23.08 has it; \
                programs that need no new feature of CUDA 12 run"
                .into(),
        ),
        (&[("CUDA_VERSION", "12.2.1"), ("NVIDIA_REQUIRE_CUDA", "cuda>=9.0")], "535.104.05", String::new()),
        (&[("CUDA_VERSION", "99.9"), ("NVIDIA_REQUIRE_CUDA", "cuda>=9.0")], "999", String::new()),
        (&[("CUDA_VERSION", "twelve"), ("NVIDIA_REQUIRE_CUDA", "cuda>=9.0")], "535.104.05", String::new()),
        // capabilities
        (&[("NVIDIA_DRIVER_CAPABILITIES", "compute,utility,video")], "", String::new()),
        (&[("NVIDIA_DRIVER_CAPABILITIES", " compute, ngx,,")], "", String::new()),
        (&[("NVIDIA_DRIVER_CAPABILITIES", "")], "", String::new()),
        (&[("NVIDIA_DRIVER_CAPABILITIES", "all,anything")], "", String::new()),
        (
            &[("NVIDIA_DRIVER_CAPABILITIES", "compute,utilities"), ("NVIDIA_DISABLE_REQUIRE", "1")],
            "",
            "error: unsupported capabilities: \"utilities\" in NVIDIA_DRIVER_CAPABILITIES is not a capability of the \
             driver; did you mean utility?"
                .into(),
        ),
    ] {
        assert_eq!(says(env, version), expected, "{env:?} with {version:?}");
    }
    assert!(says(&[("CUDA_VERSION", "twelve")], "535.104.05").starts_with("error: the image's CUDA_VERSION has"));
    assert!(says(&[("NVIDIA_REQUIRE_X", "cuda>=99"), ("NVIDIA_DISABLE_REQUIRE", "yes")], "1").is_empty());
    assert!(says(&[("NVIDIA_REQUIRE_X", "driver>=9"), ("NVIDIA_DISABLE_REQUIRE", "yes")], "8").starts_with("error: "));
    assert!(says(&[("NVIDIA_DRIVER_CAPABILITIES", "none")], "").contains("the capabilities are all, compat32"));
}

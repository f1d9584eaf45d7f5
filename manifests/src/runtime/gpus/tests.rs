use super::*;

/// GPUs, then capabilities after a bar.
fn words(request: &GpuRequest) -> String {
    let gpus = match &request.gpus {
        GpuSelection::All => "all".to_owned(),
        GpuSelection::Count(count) => count.to_string(),
        GpuSelection::Devices(devices) => format!("[{}]", devices.join(" ")),
    };
    let names: Vec<_> = request.capabilities.iter().map(|capability| capability.name()).collect();
    if names.is_empty() { gpus } else { format!("{gpus} | {}", names.join(" ")) }
}

/// The request in words, or the error's fault.
fn read(text: &str) -> String {
    text.parse().map_or_else(|error: GpuError| format!("{:?}", error.fault), |request| words(&request))
}

/// The values of docker's documentation and NVIDIA's, those that docker refuses only for want of quotes included.
#[test]
fn values_that_are_granted() {
    for (text, expected) in [
        // counts
        ("all", "all"),
        ("-1", "all"),
        ("-2", "all"),
        ("count=all", "all"),
        ("count=-1", "all"),
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
        ("+2", "2"),
        ("007", "7"),
        ("1024", "1024"),
        ("count=3", "3"),
        ("count=0", "0"),
        ("none", "0"),
        ("count=none", "0"),
        ("none,capabilities=utility", "0 | utility"),
        // as docker, the last of several bare counts
        ("2,3", "3"),
        ("all,2", "2"),
        ("count=3,2", "2"),
        // devices
        ("device=0", "[0]"),
        ("device=1,2", "[1 2]"),
        (r#""device=1,2""#, "[1 2]"),
        ("device=0,1,2,3", "[0 1 2 3]"),
        ("device=1,0", "[1 0]"),
        ("device=0,0", "[0]"),
        (r#""device=2,2,1""#, "[2 1]"),
        ("device=UUID-ABCDEF,1", "[UUID-ABCDEF 1]"),
        (r#""device=UUID-ABCDEF,1""#, "[UUID-ABCDEF 1]"),
        ("device=GPU-a,GPU-b", "[GPU-a GPU-b]"),
        ("device=GPU-3a23c669-1f69-c64e-cf85-44e9b07e7a2a", "[GPU-3a23c669-1f69-c64e-cf85-44e9b07e7a2a]"),
        ("device=0:0,0:1", "[0:0 0:1]"),
        ("device=MIG-GPU-e91edf3b/10/0", "[MIG-GPU-e91edf3b/10/0]"),
        ("device=all", "[all]"),
        ("device=none", "[none]"),
        ("device=nvidia.com/gpu=0", "[nvidia.com/gpu=0]"),
        ("count=0,device=1", "[1]"),
        // capabilities
        (r#"all,"capabilities=compute,utility""#, "all | compute utility"),
        ("all,capabilities=compute,utility", "all | compute utility"),
        ("all,capabilities=utility", "all | utility"),
        ("capabilities=utility", "1 | utility"),
        ("capabilities=utility,compute", "1 | utility compute"),
        (r#""capabilities=compute,utility",all"#, "all | compute utility"),
        ("all,capabilities=all", "all | all"),
        ("all,capabilities=compute,all", "all | compute all"),
        ("all,capabilities=ngx", "all | ngx"),
        ("all,capabilities=gpu", "all"),
        ("all,capabilities=gpu,utility,nvidia", "all | utility"),
        ("all,capabilities=utility,utility", "all | utility"),
        (
            r#"2,"capabilities=compute,compat32,graphics,utility,video,display""#,
            "2 | compute compat32 graphics utility video display",
        ),
        // as docker, what can be a count is one
        ("capabilities=utility,2", "2 | utility"),
        ("capabilities=utility,all", "all | utility"),
        ("capabilities=compute,utility,2", "2 | compute utility"),
        // the documents' slip
        ("all,capabilities=utilities", "all | utility"),
        ("all,capabilities=compute,utilities", "all | compute utility"),
        (r#"all,"capabilities=utilities,utility""#, "all | utility"),
        ("capabilities=utilities,2", "2 | utility"),
        // devices and capabilities
        (r#""device=0,1","capabilities=compute,utility""#, "[0 1] | compute utility"),
        ("device=0,1,capabilities=compute,utility", "[0 1] | compute utility"),
        ("capabilities=compute,utility,device=0,1", "[0 1] | compute utility"),
        (r#"device=1,"capabilities=video""#, "[1] | video"),
        // drivers and options
        ("driver=nvidia", "1"),
        ("driver=", "1"),
        ("driver=nvidia,count=2", "2"),
        ("all,driver=nvidia,capabilities=utility", "all | utility"),
        (r#"all,"options=a=b,c""#, "all"),
        ("all,options=a=b", "all"),
    ] {
        assert_eq!(read(text), expected, "{text}");
        let request: GpuRequest = text.parse().unwrap();
        is_read_again(&request);
    }
}

/// What is written out is docker's form, without a slip.
fn is_read_again(request: &GpuRequest) {
    let corrected = GpuRequest { slip: false, ..request.clone() };
    assert_eq!(request.to_string().parse(), Ok(corrected), "{request}");
}

#[test]
fn a_slip_is_told() {
    let warning = |text: &str| text.parse::<GpuRequest>().unwrap().warning("--gpus");
    assert_eq!(warning("all,capabilities=utilities").unwrap(), "`utilities` in --gpus is taken for `utility`");
    assert_eq!(warning("all,capabilities=utility"), None);
    assert_eq!(warning("device=utilities"), None);
}

#[test]
fn values_that_are_refused() {
    for (text, expected) in [
        ("", "Empty"),
        (",", "Empty"),
        ("all,", "Empty"),
        (",all", "Empty"),
        ("device=0,,1", "Empty"),
        (r#""""#, "Empty"),
        (r#"""#, "Quote"),
        (r#""all"#, "Quote"),
        (r#""all"x"#, "Quote"),
        (r#"all,capabilities="compute,utility""#, "Quote"),
        (r#"de"vice"#, "Quote"),
        ("two", r#"Count("two")"#),
        ("ALL", r#"Count("ALL")"#),
        (" all", r#"Count(" all")"#),
        ("1.5", r#"Count("1.5")"#),
        ("0x2", r#"Count("0x2")"#),
        ("1_0", r#"Count("1_0")"#),
        ("+", r#"Count("+")"#),
        ("count=", r#"Count("")"#),
        ("count=two", r#"Count("two")"#),
        ("99999999999999999999", r#"Count("99999999999999999999")"#),
        ("GPU-a", r#"Count("GPU-a")"#),
        ("device", r#"Count("device")"#),
        ("utility", r#"Count("utility")"#),
        ("1025", "TooMany(1025)"),
        ("4294967296", "TooMany(4294967296)"),
        ("9223372036854775807", "TooMany(9223372036854775807)"),
        ("all,all", r#"Twice("all")"#),
        ("2,2", r#"Twice("2")"#),
        ("2,count=3", r#"Twice("count")"#),
        ("count=2,count=3", r#"Twice("count")"#),
        ("device=0,device=1", r#"Twice("device")"#),
        ("driver=nvidia,driver=nvidia", r#"Twice("driver")"#),
        ("all,device=0", "CountAndDevices"),
        ("2,device=0", "CountAndDevices"),
        ("device=0,count=1", "CountAndDevices"),
        ("device=0,all", "CountAndDevices"),
        (r#""device=0,1",2"#, "CountAndDevices"),
        ("device=0,capabilities=utility,2", "CountAndDevices"),
        ("device=", r#"Device("")"#),
        ("device=1, 2", r#"Device(" 2")"#),
        ("device=-1", r#"Device("-1")"#),
        ("device=1,-1", r#"Device("-1")"#),
        (r#""device=0,""#, r#"Device("")"#),
        ("device=../0", r#"Device("../0")"#),
        ("device=0;rm", r#"Device("0;rm")"#),
        ("device=0\n", r#"Device("0\n")"#),
        ("all,capabilities=Utilities", r#"Capability("Utilities")"#),
        ("all,capabilities=compute,utilitys", r#"Capability("utilitys")"#),
        ("all,capabilities=", r#"Capability("")"#),
        ("all,capabilities=Compute", r#"Capability("Compute")"#),
        ("all,capabilities=cuda", r#"Capability("cuda")"#),
        ("driver=amd", r#"Driver("amd")"#),
        ("all,devices=0", r#"Key("devices")"#),
        ("all,capability=utility", r#"Key("capability")"#),
        ("'device=1,2'", r#"Key("'device")"#),
        ("=1", r#"Key("")"#),
        ("all,options=a=b,c=d", r#"Key("c")"#),
    ] {
        assert_eq!(read(text), expected, "{text}");
        assert!(text.parse::<GpuRequest>().unwrap_err().hint().is_some(), "{text}");
    }
}

/// Every row of `table.tsv`, which holds the values of the documents and more than 250 others.
#[test]
fn the_table() {
    let rows = include_str!("table.tsv").lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in rows {
        let (text, expected) = row.split_once('\t').unwrap();
        let found = match text.parse::<GpuRequest>() {
            Ok(request) => {
                is_read_again(&request);
                in_words(&request)
            }
            Err(error) => format!("! {}\t{}", error.fault, error.hint().unwrap()),
        };
        count += 1;
        if found != expected {
            wrong.push(format!("{text}\n  found    {found}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 250, "{count}");
}

/// GPUs, capabilities, driver and options, as the table writes them.
fn in_words(request: &GpuRequest) -> String {
    let mut parts = vec![words(request)];
    parts.extend(request.driver.map(|driver| format!("driver {}", driver.name())));
    if !request.options.is_empty() {
        let options: Vec<_> = request.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        parts.push(format!("options {}", options.join(",")));
    }
    parts.join(" | ")
}

#[test]
fn typing_errors_get_a_suggestion() {
    for (text, hint) in [
        ("all,capabilities=utilitys", "did you mean utility?"),
        ("all,capabilities=Compute", "did you mean compute?"),
        ("all,capabilities=computer", "did you mean compute?"),
        ("all,capabilities=vido", "did you mean video?"),
        ("all,devices=0", "did you mean device?"),
        ("all,capability=utility", "did you mean capabilities?"),
        ("ALL", "did you mean all?"),
        ("driver=nvida", "did you mean nvidia?"),
        ("GPU-a", "for a GPU by its name write device=GPU-a"),
        ("utility", "for a capability write all,capabilities=utility"),
    ] {
        assert_eq!(text.parse::<GpuRequest>().unwrap_err().hint().unwrap(), hint, "{text}");
    }
}

/// Text of the characters that matter to the grammar: none makes the reader panic, and what it grants it reads again.
#[test]
fn any_text_is_granted_or_refused() {
    let words = [
        "all",
        "2",
        "-1",
        "device=",
        "capabilities=",
        "utility",
        "utilities",
        "count=",
        ",",
        "\"",
        "=",
        "0",
        "é",
        "driver=",
    ];
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..6 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(words[(state >> 33) as usize % words.len()]);
        }
        if let Ok(request) = text.parse::<GpuRequest>() {
            is_read_again(&request);
        }
    }
}

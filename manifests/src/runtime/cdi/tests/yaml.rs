//! Documents in YAML.

use super::*;

/// A number or a truth value where a text belongs, as YAML 1.1 reads it and Go writes it.
#[test]
fn scalars_become_texts() {
    for (scalar, expected) in [
        ("0", "0"),
        ("00", "0"),
        ("755", "755"),
        ("0755", "493"),
        ("0o17", "15"),
        ("0x10", "16"),
        ("0b11", "3"),
        ("08", "8"),
        ("-3", "-3"),
        ("1_000", "1000"),
        ("18446744073709551615", "18446744073709551615"),
        ("1.50", "1.5"),
        ("1e3", "1000"),
        ("1e10", "1e+10"),
        ("535.104", "535.104"),
        ("535.104.05", "535.104.05"),
        ("true", "true"),
        ("no", "false"),
        ("ON", "true"),
        ("null", ""),
        ("~", ""),
        ("2001-01-01", "2001-01-01"),
        ("12:30", "12:30"),
        ("1e400", ".inf"),
        ("'0755'", "0755"),
        ("\"true\"", "true"),
    ] {
        let text = format!(
            "{HEAD}annotations: {{}}\ndevices: [{{name: a, containerEdits: {{hooks: [{{hookName: prestart, path: /a, \
                args: [{scalar}]}}]}}}}]\n"
        );
        let document = parse(text.as_bytes()).unwrap();
        assert_eq!(document.devices[0].container_edits.hooks[0].args, [expected], "{scalar}");
    }
    // Names, too, and numbers in any form where a number belongs.
    let text = format!(
        "{HEAD}devices: [{{name: 0, containerEdits: {{deviceNodes: [{{path: /dev/a, major: 1e2, minor: 3.0, fileMode: \
            0666}}], \
         additionalGids: [null, 5.0]}}}}]\n"
    )
    .replace("0.5.0", "0.7.0");
    let document = parse(text.as_bytes()).unwrap();
    let edits = &document.devices[0].container_edits;
    let node = &edits.device_nodes[0];
    assert_eq!((node.major, node.minor, node.file_mode), (Some(100), Some(3), Some(0o666)));
    assert_eq!((document.devices[0].name.as_str(), &edits.additional_gids[..]), ("0", &[0, 5][..]));
}

#[test]
fn hostile_yaml() {
    let device = "devices: [{name: a, containerEdits: {env: ['A=1']}}]\n";
    for (text, expected) in [
        (
            format!(
                "{HEAD}devices:\n- &x\n  name: a\n  containerEdits: &y {{env: [A=1]}}\n- name: b\n  containerEdits: \
                    *y\n"
            ),
            "fine",
        ),
        (format!("{HEAD}{HEAD}{device}"), "uplicate"),
        (format!("{HEAD}{device}more: 1\n"), "unknown field `more`"),
        (format!("{HEAD}{device}containerEdits: !!python/object:os.system {{}}\n"), "tag"),
        (format!("{HEAD}{device}containerEdits: {{env: [*unknown]}}\n"), "nknown"),
        (format!("\t{HEAD}"), ""),
        ("---\n".into(), "invalid type: null"),
        ("- a\n".into(), "invalid"),
        ("a: [".into(), ""),
        ("\u{0}".into(), ""),
    ] {
        let said = said(&text);
        assert!(said.contains(expected) && (said == "fine") == (expected == "fine"), "{text}\n{said}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
}

/// Each unfolds to far more than it holds, or nests without end.
#[test]
fn yaml_bombs_do_not_go_off() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        laughs += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "));
    }
    let long = format!("big: &big {}\nall: [{}]\n", "x".repeat(1 << 20), vec!["*big"; 900].join(", "));
    let many = format!("a: &a 1\nb: [{}]\n", vec!["*a"; 2000].join(", "));
    let mut merges = String::from("m0: &m0 {a: 1}\n");
    for level in 1..30 {
        merges += &format!("m{level}: &m{level} {{<<: [*m{0}, *m{0}], k{level}: 1}}\n", level - 1);
    }
    let nested = "[".repeat(50_000);
    let blocks = (0..5000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
    let recursive = "a: &a [*a]\n".to_owned();
    let anchors = (0..5000).map(|n| format!("k{n}: &k{n} 1\n")).collect::<String>();
    for text in [laughs, long, many, merges, nested, blocks, recursive, anchors] {
        let start = std::time::Instant::now();
        assert_ne!(said(&text), "fine");
        assert!(start.elapsed().as_secs() < 120, "{}", &text[..80]);
    }
}

/// A real file with bytes changed, cut out or doubled: none makes the reader panic, and what it takes it can resolve.
#[test]
fn any_bytes_are_taken_or_left() {
    let text = include_bytes!("../../../../tests/cdi/nvidia.yaml");
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut taken = 0;
    for _ in 0..400 {
        let mut bytes = text.to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len() - 40);
            match random(3) {
                0 => bytes[at] = b":-&*!|>'\"[]{}#%@`\0\n\t 0a\xff"[random(24)],
                1 => drop(bytes.drain(at..at + random(40))),
                _ => bytes.extend_from_within(at..at + random(40)),
            }
        }
        let registry = CdiRegistry::load(vec![CdiFile { path: "x.yaml".into(), priority: 0, content: Ok(bytes) }]);
        let names: Vec<_> = registry.names().collect();
        assert_eq!(names.is_empty(), registry.left_out().len() == 1);
        taken += usize::from(!names.is_empty());
        assert!(registry.resolve(names).is_ok());
    }
    assert!((1..400).contains(&taken), "{taken}");
}

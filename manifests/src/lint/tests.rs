//! Each warning where it belongs and where it does not.

use super::*;

fn process(env: &[&str], entrypoint: &[&str]) -> ExecutionParameters {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    ExecutionParameters { env: words(env), entrypoint: words(entrypoint), ..ExecutionParameters::default() }
}

fn codes(base: Option<&[&str]>, image: &[&str], packages: &[(&str, &str)]) -> Vec<&'static str> {
    findings(base, image, packages).into_iter().map(|finding| finding.code.name()).collect()
}

fn findings(base: Option<&[&str]>, image: &[&str], packages: &[(&str, &str)]) -> Vec<Finding> {
    let base = base.map(|env| process(env, &[]));
    let packages: Vec<_> = packages.iter().map(|(name, version)| InstalledPackage { name, version }).collect();
    lint(base.as_ref(), &process(image, &[]), &packages)
}

/// As NVIDIA's PyTorch images have it.
const NGC: &[&str] = &[
    "CUDA_VERSION=11.8.0.065",
    "CUDNN_VERSION=8.7.0.84",
    "NVIDIA_REQUIRE_CUDA=cuda>=9.0",
    "NVIDIA_VISIBLE_DEVICES=all",
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
    "NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS=",
    "LD_LIBRARY_PATH=/usr/local/cuda/compat/lib:/usr/local/nvidia/lib",
    "BASH_ENV=/etc/bash.bashrc",
];

#[test]
fn the_base_of_the_mission_is_fine() {
    assert_eq!(codes(Some(NGC), NGC, &[("tqdm", "4.66"), ("onnxruntime-gpu", "1.17.1")]), [] as [&str; 0]);
    assert_eq!(codes(None, NGC, &[]), [] as [&str; 0]);
    assert_eq!(codes(Some(&[]), &["PATH=/bin"], &[("onnxruntime-gpu", "1.19.0")]), [] as [&str; 0]);
}

#[test]
fn what_nvidias_hook_needs() {
    let ngc = |replaced: &str, by: &'static str| -> Vec<&'static str> {
        let entries = NGC.iter().map(|entry| if entry.starts_with(replaced) { by } else { entry });
        entries.filter(|entry| !entry.is_empty()).collect()
    };
    let shortened = ["CUDA_VERSION=11.8.0", "NVIDIA_REQUIRE_CUDA=cuda>=11"];
    let whole = |env: &[&'static str]| env.to_vec();
    for (base, image, expected) in [
        // The hook dies of the version only where nothing is required.
        (whole(NGC), ngc("NVIDIA_REQUIRE_CUDA", "NVIDIA_REQUIRE_CUDA="), &["cuda-version"][..]),
        (whole(NGC), ngc("NVIDIA_REQUIRE_CUDA", ""), &["cuda-version"]),
        (whole(NGC), ngc("NVIDIA_REQUIRE_CUDA", "NVIDIA_DISABLE_REQUIRE=true"), &[]),
        (whole(NGC), ngc("NVIDIA_REQUIRE_CUDA", "NVIDIA_DISABLE_REQUIRE=on"), &["cuda-version"]),
        (whole(&shortened), whole(&["CUDA_VERSION=11.8.0"]), &["nvidia-require"]),
        (whole(&shortened), whole(&["CUDA_VERSION=11.8.0", "NVIDIA_REQUIRE_CUDA="]), &["nvidia-require"]),
        (whole(&shortened), whole(&["NVIDIA_REQUIRE_CUDA=cuda>=12"]), &[]),
        (whole(&["NVIDIA_REQUIRE_CUDA="]), whole(&[]), &[]),
        (whole(NGC), ngc("LD_LIBRARY_PATH", "LD_LIBRARY_PATH=/opt/lib"), &["cuda-compat"]),
        (whole(NGC), ngc("LD_LIBRARY_PATH", ""), &["cuda-compat"]),
        (whole(NGC), ngc("LD_LIBRARY_PATH", "LD_LIBRARY_PATH=/opt/lib:/usr/local/cuda-12.2/compat"), &[]),
        (whole(&["LD_LIBRARY_PATH=/usr/lib/compat"]), whole(&[]), &[]),
        (whole(NGC), ngc("NVIDIA_VISIBLE", "NVIDIA_VISIBLE_DEVICES=0,1"), &["nvidia-devices"]),
        (whole(NGC), ngc("NVIDIA_VISIBLE", "NVIDIA_VISIBLE_DEVICES=GPU-8d2c-1"), &["nvidia-devices"]),
        (whole(NGC), ngc("NVIDIA_VISIBLE", "NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=all"), &["nvidia-devices"]),
        (whole(NGC), ngc("NVIDIA_VISIBLE", "NVIDIA_VISIBLE_DEVICES=void"), &[]),
        (whole(NGC), ngc("NVIDIA_VISIBLE", "NVIDIA_VISIBLE_DEVICES="), &[]),
        (whole(NGC), ngc("NVIDIA_DRIVER", "NVIDIA_DRIVER_CAPABILITIES=all"), &[]),
        (whole(NGC), ngc("NVIDIA_DRIVER", "NVIDIA_DRIVER_CAPABILITIES=anything,all"), &[]),
        (whole(NGC), ngc("NVIDIA_DRIVER", "NVIDIA_DRIVER_CAPABILITIES= compute, ngx ,"), &[]),
        (whole(NGC), ngc("NVIDIA_DRIVER", "NVIDIA_DRIVER_CAPABILITIES=compute,utilities"), &["nvidia-capabilities"]),
        (whole(NGC), ngc("NVIDIA_DRIVER", "NVIDIA_DRIVER_CAPABILITIES=Compute"), &["nvidia-capabilities"]),
        (whole(NGC), ngc("BASH_ENV", "BASH_ENV"), &["env-entry"]),
    ] {
        assert_eq!(codes(Some(&base), &image, &[]), expected, "{image:?}");
    }
    let hint = |image: &str| findings(None, &[image], &[])[0].hint.clone();
    assert_eq!(hint("NVIDIA_DRIVER_CAPABILITIES=utilities"), "did you mean utility?");
    assert!(hint("NVIDIA_DRIVER_CAPABILITIES=x").starts_with("the capabilities are all, compat32"));
}

#[test]
fn nvidias_entrypoint() {
    const NVIDIA: &str = "/opt/nvidia/nvidia_entrypoint.sh";
    let base = process(&[], &[NVIDIA]);
    for (entrypoint, fires) in
        [(&[NVIDIA][..], false), (&["/wrap.sh", NVIDIA], false), (&["/usr/bin/tini", "--"], true), (&[], true)]
    {
        let found = lint(Some(&base), &process(&[], entrypoint), &[]);
        assert_eq!(found.iter().any(|finding| finding.code == LintCode::NvidiaEntrypoint), fires, "{entrypoint:?}");
    }
    assert_eq!(lint(None, &process(&[], &[]), &[]), []);
    assert_eq!(lint(Some(&process(&[], &["/init"])), &process(&[], &["/mine"]), &[]), []);
}

#[test]
fn onnxruntime_is_built_for_one_cuda() {
    let hint = |image: &[&str], version: &str| -> Option<(String, String)> {
        let found = findings(None, image, &[("onnxruntime-gpu", version)]);
        assert!(found.iter().all(|finding| finding.code == LintCode::OnnxruntimeCuda), "{found:?}");
        found.into_iter().next().map(|finding| (finding.message, finding.hint))
    };
    let (cuda11, cuda12) =
        (["CUDA_VERSION=11.8.0", "CUDNN_VERSION=8.7.0"], ["CUDA_VERSION=12.6.1", "CUDNN_VERSION=9.3"]);
    let mixed = ["CUDA_VERSION=12.3.2", "CUDNN_VERSION=8.9.7"];
    for version in ["1.13.1", "1.14.0", "1.15.1", "1.17.3", "1.18.1"] {
        assert_eq!(hint(&cuda11, version), None, "{version}");
        assert!(hint(&cuda12, version).is_some(), "{version}");
    }
    for version in ["1.19.0", "1.19.2", "1.20.1", "1.23.0"] {
        assert_eq!(hint(&cuda12, version), None, "{version}");
        assert_eq!(hint(&cuda11, version).unwrap().1, "require onnxruntime-gpu>=1.7,<1.19", "{version}");
    }
    let (message, advice) = hint(&mixed, "1.19.0").unwrap();
    assert!(message.contains("is built for cuDNN 9 and the image has cuDNN 8"), "{message}");
    assert_eq!(advice, "choose a base with CUDA 12 and cuDNN 9");
    assert!(hint(&mixed, "1.18.0").unwrap().0.contains("is built for CUDA 11 and the image has CUDA 12"));
    // Known only to the future, or not at all.
    for version in ["1.24.0", "2.0.0", "1.6.0", "1", "x.y", ""] {
        assert_eq!(hint(&cuda11, version), None, "{version}");
        assert_eq!(hint(&cuda12, version), None, "{version}");
    }
    assert_eq!(hint(&["CUDA_VERSION=12"], "1.18.0").unwrap().1, "require onnxruntime-gpu>=1.19,<1.24");
    assert!(hint(&["NV_CUDNN_VERSION=8.9.6.50-1"], "1.20.0").is_some());
    assert_eq!(hint(&["PATH=/bin"], "1.20.0"), None);
    // Wheels may bring what the image lacks.
    let brought = [("onnxruntime-gpu", "1.20.0"), ("nvidia-cuda-runtime-cu12", "12.4"), ("nvidia-cudnn-cu12", "9.1")];
    assert_eq!(codes(None, &cuda11, &brought), [] as [&str; 0]);
    assert_eq!(codes(None, &mixed, &brought[..2]), ["onnxruntime-cuda"]);
    let both = [("onnxruntime", "1.20.0"), ("onnxruntime-gpu", "1.20.0")];
    assert_eq!(codes(None, &cuda12, &both), ["onnxruntime-twice"]);
    assert_eq!(codes(None, &cuda11, &both[..1]), [] as [&str; 0]);
}

#[test]
fn secrets_are_found_and_never_shown() {
    const KEY: &str = "0123456789abcdefABCDEF0123456789abcdefXYZ";
    let long = |prefix: &str| format!("{prefix}{KEY}");
    for entry in [
        long("HF_TOKEN=hf_"),
        long("X=ghp_"),
        long("X=github_pat_"),
        long("KEY=nvapi-"),
        long("X=sk-"),
        long("X=sk-proj-"),
        long("OPTS=--header=x --key sk-"),
        long("X=glpat-"),
        "X=AKIAIOSFODNN7EXAMPLE".into(),
        "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        long("WANDB_API_KEY="),
        "db_password=hunter2".into(),
        "DB_PASSWORD=12345678".into(),
        "PASSWORD=a".into(),
        "KEY_PASSPHRASE=correct horse".into(),
        "DJANGO_SECRET_KEY=django-insecure-1".into(),
        "CLIENT_SECRET=abcdefgh".into(),
        "UV_INDEX_URL=https://me:hunter2@packages.example.com/simple".into(),
        "HTTP_PROXY=http://user:hunter2@proxy:3128/".into(),
        "URLS=https://a.example https://u:hunter2@b.example".into(),
        "DATABASE_URL=postgres://u:hunter2@db/x".into(),
        "CERT=-----BEGIN RSA PRIVATE KEY-----\nabc".into(),
    ] {
        let found = findings(None, &["PATH=/bin", &entry], &[]);
        let (name, value) = entry.split_once('=').unwrap();
        assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), [LintCode::SecretEnv], "{entry}");
        let shown = format!("{found:?}");
        assert!(shown.contains(name) && !shown.contains("hunter2"), "{shown}");
        assert!(value.len() < 2 || !shown.contains(value), "{shown}");
        // What the base brought is not this image's doing; what was put in its place is.
        assert_eq!(findings(Some(&[&entry]), &["PATH=/bin", &entry], &[]), [], "{entry}");
        assert_eq!(codes(Some(&[&format!("{name}=old")]), &[&entry], &[]), ["secret-env"], "{entry}");
    }
}

#[test]
fn what_only_sounds_like_a_secret() {
    for entry in [
        "HF_TOKEN=",
        "HF_TOKEN_PATH=/root/.cache/huggingface/token",
        "DB_PASSWORD_FILE=/run/secrets/db",
        "DB_PASSWORD=/run/secrets/db",
        "TOKEN=$TOKEN",
        "API_KEY=${API_KEY}",
        "DB_PASSWORD=<password>",
        "DB_PASSWORD=********",
        "MAX_TOKEN=512",
        "TOKENIZERS_PARALLELISM=false",
        "MAX_NEW_TOKENS=4096",
        "PAD_TOKEN=<pad>",
        "EOS_TOKEN=<|endoftext|>",
        "MASK_TOKEN=[MASK]",
        "USE_AUTH_TOKEN=true",
        "SECRET_NAME=projects/x/secrets/y",
        "AWS_SECRET_ARN=arn:aws:secretsmanager:eu-1:1:secret:abc",
        "SECRETARY=somebody else entirely",
        "PATH=/usr/local/bin:/usr/bin",
        "PYTORCH_BUILD_VERSION=1.14.0a0+410ce96",
        "MODEL=hf_internal_testing_tiny_random_gpt",
        "X=sk-learn-contrib-some-long-name-of-a-package",
        "HTTPS_PROXY=http://proxy.example.com:3128",
        "URL=https://user@example.com/a:b@c",
        "REPO=ssh://git@example.com:2222/x",
        "URL=https://u:$PASSWORD@example.com",
        "NVIDIA_PRODUCT_NAME=PyTorch",
        "PASSWORD_POLICY=strict and long",
        "MAIL=mailto:a@b.example",
    ] {
        assert_eq!(findings(None, &[entry], &[]), [], "{entry}");
    }
}

#[test]
fn the_order_is_fixed() {
    let image = [
        "B_TOKEN=abcdefgh1",
        "broken",
        "A_TOKEN=abcdefgh1",
        "NVIDIA_DRIVER_CAPABILITIES=x",
        "NVIDIA_VISIBLE_DEVICES=0",
        "CUDA_VERSION=13.0.2.006",
    ];
    let packages = [("onnxruntime", "1.20.0"), ("onnxruntime-gpu", "1.20.0")];
    let base = ExecutionParameters { entrypoint: vec!["/opt/nvidia/nvidia_entrypoint.sh".into()], ..process(NGC, &[]) };
    let packages: Vec<_> = packages.iter().map(|(name, version)| InstalledPackage { name, version }).collect();
    let found = lint(Some(&base), &process(&image, &[]), &packages);
    let names: Vec<_> = found.iter().map(|finding| finding.code.name()).collect();
    let mut expected: Vec<_> = LintCode::ALL.iter().map(|code| code.name()).collect();
    // The number of layers is the image's, not its configuration's.
    expected.retain(|name| !["nvidia-require", "layer-count"].contains(name));
    expected.push("secret-env");
    assert_eq!(names, expected);
    assert!(found[8].message.contains("B_TOKEN") && found[9].message.contains("A_TOKEN"));
    assert!(found[7].message.contains("entry 2"), "{found:?}");
}

//! Images against the driver.

use ociforge_manifests::runtime::DriverVersion;

use super::*;
use crate::doctor::judge_image;

#[test]
fn images_and_the_driver() {
    const CUDA12: &[&str] = &["CUDA_VERSION=12.3.2", "CUDA_DRIVER_VERSION=545.23.08", "NVIDIA_REQUIRE_CUDA=cuda>=9.0"];
    const COMPAT: &[&str] =
        &["CUDA_VERSION=12.3.2", "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "LD_LIBRARY_PATH=/usr/local/cuda/compat/lib"];
    const FIRST: &[&str] = &["CUDA_VERSION=9.0"];
    /// As NVIDIA's CUDA images are, cut short.
    const OFFICIAL: &[&str] = &[
        "CUDA_VERSION=12.4.1",
        "NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=unknown,driver>=535,driver<536",
    ];
    const PACKAGE: &[&str] =
        &["CUDA_VERSION=12.3.2", "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "NV_CUDA_COMPAT_PACKAGE=cuda-compat-12-3"];
    const NGC: &[&str] =
        &["CUDA_VERSION=12.3.2", "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "_CUDA_COMPAT_PATH=/usr/local/cuda-12.3/compat"];
    const BACKWARD: &[&str] =
        &["CUDA_VERSION=12.3.2", "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "X=/usr/local/cuda-x/compatible"];
    for (env, driver, expected) in [
        (CUDA12, Some("545.23.08"), "ok CUDA: 12.3.2; driver 545.23.08 has CUDA 12.3"),
        (CUDA12, Some("999.1"), "ok CUDA: 12.3.2; driver 999.1 has CUDA 13.3 or newer"),
        // By minor version compatibility.
        (
            CUDA12,
            Some("535.54.03"),
            "warn CUDA: the image's CUDA 12.3 is newer than CUDA 12.2, the newest of driver 535.54.03; driver \
                545.23.08 has it; programs that need no new feature of CUDA 12 run",
        ),
        (
            CUDA12,
            Some("470.57.02"),
            "missing CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver 470.57.02; driver \
                545.23.08 \
             has it: install that, or",
        ),
        (COMPAT, Some("470.57.02"), "warn CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver"),
        (PACKAGE, Some("470.57.02"), "warn CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver"),
        (NGC, Some("470.57.02"), "warn CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver"),
        (
            BACKWARD,
            Some("470.57.02"),
            "missing CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver",
        ),
        // What the image's own requirement allows.
        (
            OFFICIAL,
            Some("470.57.02"),
            "warn CUDA: the image's CUDA 12.4 is newer than CUDA 11.4, the newest of driver 470.57.02; driver 550.54 \
                has it; \
             the image allows this driver on GPUs of some brands",
        ),
        (OFFICIAL, Some("535.104.05"), "warn CUDA: the image's CUDA 12.4 is newer than CUDA 12.2"),
        (OFFICIAL, Some("525.60.13"), "missing CUDA: the image needs `cuda>=12.4` or other drivers"),
        // JetPack's drivers
        (
            &["CUDA_VERSION=12.6.0", "NVIDIA_REQUIRE_CUDA=cuda>=12.6"],
            Some("540.4.0"),
            "ok CUDA: 12.6.0; driver 540.4.0 has",
        ),
        (
            &["CUDA_VERSION=12.6.0", "NVIDIA_REQUIRE_CUDA=cuda>=12.6"],
            Some("35.3.1"),
            "missing CUDA: the image needs `cuda>=12.6` (NVIDIA_REQUIRE_CUDA), and driver 35.3.1 with CUDA 11.4 does \
                not meet this requirement (hint: install a newer JetPack;",
        ),
        // Turned off, which does not make the driver any newer.
        (
            &["NVIDIA_REQUIRE_CUDA=cuda>=99", "NVIDIA_DISABLE_REQUIRE=1"],
            Some("545.1"),
            "warn CUDA: the image needs `cuda>=99` (NVIDIA_REQUIRE_CUDA), and driver 545.1 with CUDA 12.3 does not \
                meet this requirement; the check is disabled: containers start, and CUDA fails in them",
        ),
        (CUDA12, None, "warn CUDA: 12.3.2, which driver 545.23 and newer have; this machine has no loaded driver"),
        (FIRST, Some("390.1"), "ok CUDA: 9.0; driver 390.1 has CUDA 9.1"),
        (FIRST, Some("304.1"), "ok CUDA: 9.0; driver 304.1 is older than all known versions"),
        // What `run` would refuse.
        (
            &["CUDA_VERSION=13.0.2"],
            Some("575.1"),
            "missing CUDA: the image needs `cuda>=13.0` (CUDA_VERSION), and driver 575.1 with CUDA 12.9 does not meet \
                this requirement (hint: install driver 580.65 or newer; --env NVIDIA_DISABLE_REQUIRE=1 disables the \
                check)",
        ),
        (
            &["NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470,driver<471"],
            Some("525.60.13"),
            "missing CUDA: the image needs `cuda>=12.4` or other drivers (NVIDIA_REQUIRE_CUDA), and driver 525.60.13",
        ),
        (&["NVIDIA_REQUIRE_CUDA=nonsense"], Some("545.1"), "missing CUDA: the image's NVIDIA_REQUIRE_CUDA has"),
        (&["NVIDIA_REQUIRE_CUDA=nonsense"], None, "warn CUDA: the image's NVIDIA_REQUIRE_CUDA has"),
    ] {
        let driver: Option<DriverVersion> = driver.map(|text| text.parse().unwrap());
        let shown = lines(&judge_image(&image(("linux", "amd64"), env, 1000), &user(), driver.as_ref()));
        assert_eq!(shown[0], "ok architecture: linux/amd64");
        assert_eq!(shown[1], "ok space: 1.0 kB packed, about 2.5 kB unpacked; 500.0 GB free");
        assert!(shown[2].starts_with(expected) && shown.len() == 3, "{expected} in {shown:#?}");
    }
    let without = lines(&judge_image(&image(("linux", "amd64"), &["PATH=/bin"], 1000), &user(), None));
    assert_eq!(without.len(), 2, "{without:?}");
    // The driver that is loaded counts where none is given.
    let shown = lines(&judge_image(&image(("linux", "amd64"), CUDA12, 1), &gpu(), None));
    assert!(shown[2].starts_with("ok CUDA"), "{shown:?}");
    let found = lines(&judge_image(&image(("linux", "amd64"), &["CUDA_VERSION=12.3.2.001"], 1), &gpu(), None));
    assert!(found[3].starts_with("warn cuda-version: CUDA_VERSION is 12.3.2.001, with four parts"), "{found:?}");
    // The libraries for an older driver may be known by the step that brought them alone.
    for (step, expected) in [
        ("RUN apt-get install -y cuda-compat-12-3", "warn CUDA: the image's CUDA 12.3 is newer"),
        ("ENV LD=/usr/local/cuda/compat", "warn CUDA: the image's CUDA 12.3 is newer"),
        ("RUN apt-get install -y cuda-cudart-12-3", "missing CUDA: the image's CUDA 12.3 is newer"),
    ] {
        let image = made_by(step, ("linux", "amd64"), CUDA12, 1);
        let shown = lines(&judge_image(&image, &user(), "470.57.02".parse().ok().as_ref()));
        assert!(shown[2].starts_with(expected), "{expected} in {shown:?}");
    }
    // The toolkit's config turns it off for every image.
    let mut facts = gpu();
    facts.gpus.toolkit.disables_require = true;
    let shown = lines(&judge_image(&image(("linux", "amd64"), &["NVIDIA_REQUIRE_CUDA=cuda>=99"], 1), &facts, None));
    assert!(shown[2].starts_with("warn CUDA: the image needs `cuda>=99`"), "{shown:?}");
}

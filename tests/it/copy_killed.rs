//! Copies that are killed at any moment go on where they were when they are started again, and end as if nothing had
//! been.
//!
//! `OCIFORGE_TEST_KILLS` is the number of kills for each kind of target, `OCIFORGE_TEST_KILL_MB` the image's size; with
//! either the program itself is killed, with its long chunks.

use std::env;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use ociforge::registry::{Client, Settings};
use ociforge::store::Layout;

use super::support::{Place, Proxy, Registry, copy, files, impatient, noise_image, remote, sound, upload};

/// Kills for each kind of target.
const KILLS: u64 = 10;
/// Size of the image in MB.
const SIZE: u64 = 60;
/// Length of the chunks of an upload in bytes, and of those of the program.
const CHUNK: u64 = 1 << 20;
const LONG_CHUNK: u64 = 64 << 20;
/// How many blobs move at a time.
const JOBS: u64 = 4;
/// What may be on its way between two programs when one of them dies, in the buffers of both and of the kernel's
/// sockets, for each blob in hand. Bytes.
const ON_ITS_WAY: u64 = 8 << 20;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

fn full() -> bool {
    env::var_os("OCIFORGE_TEST_KILLS").is_some() || env::var_os("OCIFORGE_TEST_KILL_MB").is_some()
}

/// An image in a registry, behind a proxy that counts.
struct Ground {
    place: Place,
    _base: Registry,
    from: Proxy,
    /// Of the image, in bytes.
    size: u64,
    digest: String,
}

/// What it took.
#[derive(Debug)]
struct Told {
    kills: u64,
    /// Bytes that moved in all runs together, beyond the image's.
    #[expect(dead_code, reason = "it is printed")]
    beyond: u64,
    /// The same for each kill.
    each: u64,
}

impl Ground {
    async fn new() -> Self {
        let place = Place::new();
        let base = Registry::serve(&place, "base");
        let megabytes = number("OCIFORGE_TEST_KILL_MB").unwrap_or(SIZE);
        let lengths = [40, 25, 20, 10, 4, 1].map(|part| (megabytes * 10_000 * part) as usize);
        let layout = Layout::create(place.path("image")).unwrap();
        let root = noise_image(&layout, 1, &lengths);
        let client = Client::new(impatient()).unwrap();
        upload(&layout, &root, &remote(&client, &base.address, "base"), "v1").await;
        fs::remove_dir_all(layout.root()).unwrap();
        let from = Proxy::before(&base.address);
        Self { place, _base: base, from, size: lengths.iter().sum::<usize>() as u64, digest: root.digest.to_string() }
    }

    /// The program that copies the image to `to`.
    fn program(&self, to: &str) -> Command {
        let from = format!("{}/base:v1", self.from.address);
        self.place.ociforge(["copy", &from, to, "--progress", "none"])
    }

    /// The same with short chunks: this program, where it is called [`victim`].
    fn victim(&self, to: &str) -> Command {
        let program = env::current_exe().unwrap();
        let mut command =
            self.place.wrapped(program.to_str().unwrap(), ["--exact", "copy_killed::victim", "--ignored"]);
        command.env("VICTIM_FROM", format!("{}/base:v1", self.from.address)).env("VICTIM_TO", to);
        command
    }

    /// Starts the program again and again until it comes to its end. As often as is wanted, `proxy` stands still when so
    /// and so many bytes have moved by the requests of `pattern`, and the program is killed; until the end nothing must
    /// be `named`.
    fn torment(&self, program: &dyn Fn() -> Command, moving: (&Proxy, &str), named: &dyn Fn() -> bool) -> Told {
        let wanted = number("OCIFORGE_TEST_KILLS").unwrap_or(KILLS);
        let mut random = fastrand::Rng::with_seed(7);
        let (proxy, pattern) = moving;
        let mut kills = 0;
        loop {
            if kills < wanted {
                proxy.hold_after(pattern, random.u64(0..2 * self.size / wanted));
            }
            let log = self.place.path("program.log");
            let mut command = program();
            command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
            let mut child = command.spawn().unwrap();
            let mut ended = None;
            while ended.is_none() && !proxy.is_holding() {
                std::thread::sleep(Duration::from_millis(1));
                ended = child.try_wait().unwrap();
            }
            match ended {
                Some(status) => {
                    assert!(status.success(), "{kills} kills, then {}", fs::read_to_string(&log).unwrap());
                    break;
                }
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    proxy.release();
                    kills += 1;
                    assert!(!named(), "a name for something incomplete after {kills} kills");
                }
            }
        }
        assert!(named());
        let moved = proxy.taken(pattern) + proxy.given(pattern);
        let beyond = moved.saturating_sub(self.size);
        Told { kills, beyond, each: beyond / kills.max(1) }
    }
}

/// What is killed: a copy with short chunks.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "others start and kill it"]
async fn victim() {
    let (Ok(from), Ok(to)) = (env::var("VICTIM_FROM"), env::var("VICTIM_TO")) else { return };
    let journal = env::var_os("OCIFORGE_STORE").map(|store| std::path::Path::new(&store).join("uploads"));
    let client = Client::new(Settings { chunk: CHUNK, journal, ..Settings::default() }).unwrap();
    let source = client.repository(&from.parse().unwrap());
    let target = client.repository(&to.parse().unwrap());
    copy(&source, &target, "copy", JOBS as usize).await.unwrap();
}

/// Copies to a registry.
async fn to_registry(start: fn(&Place, &str) -> Registry) -> (Told, u64) {
    let ground = Ground::new().await;
    let registry = start(&ground.place, "registry");
    let to = Proxy::before(&registry.address);
    let name = format!("{}/app:copy", to.address);
    let program = || if full() { ground.program(&name) } else { ground.victim(&name) };
    let named = || registry.get("/v2/app/manifests/copy").0 == 200;
    let told = ground.torment(&program, (&to, "* /blobs/uploads/"), &named);
    assert_eq!(sound(&registry, "app", "copy").unwrap().as_str(), ground.digest);
    (told, ground.size)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_way_to_a_registry() {
    let (told, _) = to_registry(Registry::serve).await;
    eprintln!("to serve: {told:?}");
    let chunk = if full() { LONG_CHUNK } else { CHUNK };
    assert!(told.kills > 0 && told.each <= JOBS * chunk, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_way_to_a_registry_that_forgets() {
    // docker-registry gives an upload up in the middle of which a request broke off: what is in hand begins again.
    let (told, size) = to_registry(Registry::docker).await;
    eprintln!("to docker-registry: {told:?}");
    assert!(told.kills > 0 && told.each <= size, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_way_to_a_layout() {
    let ground = Ground::new().await;
    let (copy, calm) = (ground.place.at("copy"), ground.place.at("calm"));
    let named = || Layout::open(&copy).is_ok_and(|layout| layout.find(Some("x")).is_ok());
    let program = || ground.program(&format!("oci:{copy}:x"));
    let told = ground.torment(&program, (&ground.from, "GET /blobs/"), &named);
    eprintln!("to a layout: {told:?}");
    assert!(told.kills > 0 && told.each <= JOBS * ON_ITS_WAY, "{told:?}");
    assert!(ground.program(&format!("oci:{calm}:x")).status().unwrap().success());
    let content = |root: &str| {
        let names = files(root.as_ref()).into_iter().map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path.strip_prefix(root).unwrap().to_owned(), bytes)
        });
        std::collections::BTreeMap::from_iter(names)
    };
    assert!(content(&copy) == content(&calm), "{:?}", files(copy.as_ref()));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_way_to_an_archive() {
    let ground = Ground::new().await;
    let (copy, calm) = (ground.place.at("copy.tar"), ground.place.at("calm.tar"));
    let program = || ground.program(&format!("oci-archive:{copy}:x"));
    let told = ground.torment(&program, (&ground.from, "GET /blobs/"), &|| fs::exists(&copy).unwrap());
    eprintln!("to an archive: {told:?}");
    assert!(told.kills > 0 && told.each <= JOBS * ON_ITS_WAY, "{told:?}");
    assert!(ground.program(&format!("oci-archive:{calm}:x")).status().unwrap().success());
    assert!(fs::read(&copy).unwrap() == fs::read(&calm).unwrap());
    let left = fs::read_dir(ground.place.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().contains("copy.tar")).count(), 1);
}

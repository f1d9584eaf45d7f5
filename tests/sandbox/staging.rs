//! Root filesystems of steps, made and written as somebody, and taken over into the store.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ociforge::cancel::Cancel;
use ociforge::rootfs::Unpacker;
use ociforge::rootfs::writable::{self, RootfsForm, WritableRootfs};
use ociforge::store::{ContainerDirectory, Store};
use ociforge_manifests::{ChainId, ConfigEdit, Descriptor, DiffId, Digest, Image, NewLayer, Platform, media_type};
use ociforge_sandbox::{Entered, Isolation, enter_as};

use super::Case;
use super::identity::{EVERYBODY, Machine, Who};
use super::scenario::fail;
use super::waiting::cpu_time;

pub(crate) const CASES: &[Case] = &[
    ("staging::what_a_step_writes_is_the_next_ones_root", what_a_step_writes_is_the_next_ones_root),
    ("staging::asked_for_isolation_is_had_or_an_error", asked_for_isolation_is_had_or_an_error),
    ("staging::a_killed_step_leaves_nothing", a_killed_step_leaves_nothing),
    ("staging::a_root_of_60_layers_is_there_at_once", a_root_of_60_layers_is_there_at_once),
];

fn what_a_step_writes_is_the_next_ones_root(machine: &Machine) {
    for (who, kind, owner) in [(Who::Root, "all", 33), (Who::Ranges, "ranges", 33), (Who::OneId, "remembered", 0)] {
        let store = machine.directory(who);
        let played = machine.play(who, &["stage", "auto", store.path().to_str().unwrap()]);
        assert_eq!(played.code, Some(0), "{who:?} {played:?}");
        let expected = format!("form=overlay kind={kind}\nscript=0 {owner}\nnext=written {owner} 755\nleft=0\n");
        assert!(played.out.ends_with(&expected), "{who:?} {played:?} instead of {expected}");
    }
}

fn asked_for_isolation_is_had_or_an_error(machine: &Machine) {
    let many = "cannot use a user namespace with many ids";
    let cases = [
        (Who::Root, "auto", "is=root in a mount namespace"),
        (Who::Root, "root", "is=root in a mount namespace"),
        (Who::Root, "subuid", "is=a user namespace with 4294967294 ids"),
        (Who::Root, "one", "is=a user namespace with one id; owners are recorded"),
        (Who::Root, "chroot", "is=chroot\nids=All confinement=Chroot warning=None\n"),
        (Who::Ranges, "auto", "is=a user namespace with 65537 ids"),
        (Who::Ranges, "subuid", "is=a user namespace with 65537 ids"),
        (Who::Ranges, "one", "is=a user namespace with one id; owners are recorded"),
        (
            Who::Ranges,
            "root",
            "error: cannot use a mount namespace of root's\n  cause: the user is not root\n  hint: run as",
        ),
        (Who::Ranges, "chroot", "error: cannot use chroot\n  cause: the user is not root\n  hint: run as root"),
        (Who::OneId, "auto", "is=a user namespace with one id; owners are recorded"),
        (
            Who::OneId,
            "subuid",
            &format!("error: {many}\n  cause: neither /etc/subuid nor /etc/subgid has ids for this"),
        ),
    ];
    for (who, isolation, expected) in cases {
        let played = machine.play(who, &["isolate", isolation]);
        let said = if expected.starts_with("error") { &played.err } else { &played.out };
        assert!(said.starts_with(expected), "{who:?} {isolation} {played:?} instead of {expected}");
    }
}

fn a_killed_step_leaves_nothing(machine: &Machine) {
    for who in EVERYBODY {
        let store = machine.directory(who);
        let path = store.path().to_str().unwrap();
        let mut command = machine.command(who, &["hold-stage", path]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "staged"), "{who:?}");
        let steps = || fs::read_dir(store.path().join("steps")).unwrap().map(|entry| entry.unwrap().path());
        assert!(steps().next().unwrap().join("upper/written").exists(), "{who:?}");
        // Another build leaves it alone, and nobody sees its mount.
        let played = machine.play(who, &["stage", "auto", path]);
        assert!(played.out.ends_with("left=1\n"), "{who:?} {played:?}");
        assert_eq!(fs::read_dir(steps().next().unwrap().join("rootfs")).unwrap().count(), 0, "{who:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        let played = machine.play(who, &["stage", "auto", path]);
        assert!(played.out.ends_with("left=0\n"), "{who:?} {played:?}");
    }
}

/// How much CPU time the second stage of an image may take.
const AT_ONCE: Duration = Duration::from_millis(300);

fn a_root_of_60_layers_is_there_at_once(machine: &Machine) {
    for who in EVERYBODY {
        let store = machine.directory(who);
        let path = store.path().to_str().unwrap();
        for round in 0..2 {
            let played = machine.play(who, &["deep", path]);
            assert_eq!(played.code, Some(0), "{who:?} {played:?}");
            let number = |name: &str| -> u128 {
                played.out.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
            };
            println!("    {who:?}: {} µs of CPU time for 60 layers", number("micros="));
            assert_eq!(number("unpacked="), if round == 0 { 60 } else { 0 }, "{who:?}");
            assert!(round == 0 || number("micros=") < AT_ONCE.as_micros(), "{who:?} {played:?}");
        }
    }
}

/// The isolation called so.
fn isolation(name: &str) -> Isolation {
    match name {
        "auto" => Isolation::Auto,
        "root" => Isolation::Root,
        "subuid" => Isolation::Subuid,
        "one" => Isolation::OneUid,
        "chroot" => Isolation::Chroot,
        _ => panic!("no isolation {name}"),
    }
}

/// Enters and says what that is.
pub(crate) fn isolate(name: &str) -> Result<Entered, ExitCode> {
    let entered = enter_as(isolation(name)).map_err(fail)?;
    println!("is={}", entered.describe());
    println!("ids={:?} confinement={:?} warning={:?}", entered.ids(), entered.confinement(), entered.warning());
    Ok(entered)
}

/// Entries of a tar: name, mode, owner, content; directories end with `/`, links have their target as content.
type Entry<'a> = (&'a str, u32, u64, &'a [u8]);

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, owner, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(*owner);
        header.set_size(0);
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, name, &[][..]).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, *content).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn layer(store: &Store, tar: &[u8]) -> NewLayer {
    let diff_id = DiffId(store.layout().put(tar).unwrap());
    NewLayer { descriptor: Descriptor::of(media_type::LAYER_TAR, tar), diff_id, created_by: "test".into() }
}

fn append(image: &Image, layers: &[NewLayer]) -> Image {
    image.append(layers, &ConfigEdit::default(), "1970-01-01T00:00:00Z", &BTreeMap::new()).unwrap()
}

/// Busybox, a file of somebody else's, and one that a second layer removes.
fn image(store: &Store) -> Image {
    let busybox = fs::read("/bin/busybox").or_else(|_| fs::read("/busybox")).unwrap();
    let lower = tar(&[
        ("./", 0o755, 0, b""),
        ("bin/", 0o755, 0, b""),
        ("bin/busybox", 0o755, 0, &busybox),
        ("srv/", 0o750, 33, b""),
        ("srv/gone", 0o600, 33, b"x"),
    ]);
    let upper = tar(&[("srv/", 0o750, 33, b""), ("srv/.wh.gone", 0, 0, b"")]);
    append(&Image::scratch(&Platform::default()).unwrap(), &[layer(store, &lower), layer(store, &upper)])
}

async fn make(entered: &Entered, store: &Store, image: &Image) -> (WritableRootfs, Arc<ContainerDirectory>) {
    let directory = Arc::new(ContainerDirectory::create(&store.steps(), true).unwrap());
    let cancel = Cancel::default();
    let owners = writable::owners(entered);
    let unpacker = Unpacker { source: store.layout(), reporter: &(), jobs: 2, owners, cancel: &cancel };
    (WritableRootfs::make(entered, &unpacker, store, image, &directory).await.unwrap().0, directory)
}

const SCRIPT: &str = "b=/bin/busybox; echo written > /new && $b id -u && ($b chown 33:33 /new || true) && \
                      $b stat -c %u /new && $b test ! -e /srv/gone";

/// Stages an image, writes into it as a step does, and makes the next step's root of that.
pub(crate) fn stage(name: &str, store: &str) -> ExitCode {
    let entered = match isolate(name) {
        Ok(entered) => entered,
        Err(code) => return code,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(play(&entered, &Store::open(Path::new(store)).unwrap()));
    ExitCode::SUCCESS
}

async fn play(entered: &Entered, store: &Store) {
    let image = image(store);
    let (staged, directory) = make(entered, store, &image).await;
    assert!(!staged.root().join("srv/gone").exists());
    let form = staged.form().clone();
    let kinds = fs::read_dir(store.root().join("roots")).into_iter().flatten();
    let kinds: Vec<_> = kinds.map(|kind| kind.unwrap().file_name().into_string().unwrap()).collect();
    println!("form={} kind={}", if form == RootfsForm::Copy { "copy" } else { "overlay" }, kinds.join(" "));
    let mut command = Command::new("chroot");
    command.arg(staged.root()).args(["/bin/busybox", "sh", "-c", SCRIPT]).stdin(Stdio::null());
    let ran = command.output().unwrap();
    println!("script={}", String::from_utf8_lossy(&ran.stdout).split_whitespace().collect::<Vec<_>>().join(" "));
    if let RootfsForm::Overlay { upper, .. } = form {
        let roots = writable::roots(store, entered, writable::owners(entered));
        // No blob has this digest: the step's layer is there already, unpacked.
        let new = NewLayer {
            descriptor: Descriptor::of(media_type::LAYER_TAR, b"none"),
            diff_id: DiffId(Digest::of(b"none")),
            created_by: "step".into(),
        };
        let next = append(&image, &[new]);
        let chain = ChainId::of(&next.config.rootfs.diff_ids);
        let below = chain.len() - 1;
        drop(staged);
        roots.adopt(&upper, &chain[below]).unwrap();
        let (staged, _directory) = make(entered, store, &next).await;
        let new = fs::metadata(staged.root().join("new")).unwrap();
        let text = fs::read_to_string(staged.root().join("new")).unwrap();
        println!("next={} {} {:o}", text.trim(), new.uid(), fs::metadata(staged.root()).unwrap().mode() & 0o7777);
    } else {
        drop(staged);
    }
    drop(directory);
    println!("left={}", fs::read_dir(store.steps()).unwrap().count());
}

/// Stages an image, writes into it, and waits to be killed.
pub(crate) fn hold(store: &str) -> ExitCode {
    let entered = match isolate("auto") {
        Ok(entered) => entered,
        Err(code) => return code,
    };
    let store = Store::open(Path::new(store)).unwrap();
    let (staged, _directory) = tokio::runtime::Runtime::new().unwrap().block_on(make(&entered, &store, &image(&store)));
    fs::write(staged.root().join("written"), "").unwrap();
    println!("staged");
    let _ = std::io::stdin().read_line(&mut String::new());
    ExitCode::SUCCESS
}

/// Stages an image of 60 layers.
pub(crate) fn deep(store: &str) -> ExitCode {
    let entered = match isolate("auto") {
        Ok(entered) => entered,
        Err(code) => return code,
    };
    let store = Store::open(Path::new(store)).unwrap();
    let layers = (0..60).map(|n| layer(&store, &tar(&[(&format!("file{n}"), 0o644, 0, b"x")])));
    let image = append(&Image::scratch(&Platform::default()).unwrap(), &layers.collect::<Vec<_>>());
    let unpacked = || {
        let roots = writable::roots(&store, &entered, writable::owners(&entered));
        ChainId::of(&image.config.rootfs.diff_ids).iter().filter(|chain| roots.path(chain).exists()).count()
    };
    let before = unpacked();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begun = cpu_time(std::process::id());
    let (staged, _directory) = runtime.block_on(make(&entered, &store, &image));
    println!("micros={}\nunpacked={}", (cpu_time(std::process::id()) - begun).as_micros(), unpacked() - before);
    assert!((0..60).all(|n| staged.root().join(format!("file{n}")).exists()));
    ExitCode::SUCCESS
}

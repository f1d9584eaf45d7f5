//! Owners that a step gives to its files where there is one id only, against the same step of root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ociforge_layers::owner::{ATTRIBUTE, FileIdentity, OwnershipRecord, OwnershipTable};
use rustix::fs::{AtFlags, CWD, StatxFlags, XattrFlags, lgetxattr, setxattr, statx};

use super::Case;
use super::identity::{Machine, Played, Who, run};

pub(crate) const CASES: &[Case] = &[
    ("owners::files_belong_to_whom_they_are_given", files_belong_to_whom_they_are_given),
    ("owners::archives_keep_their_owners", archives_keep_their_owners),
    ("owners::root_is_given_up_as_the_kernel_has_it", root_is_given_up),
    ("owners::new_files_belong_to_their_makers", new_files_belong_to_their_makers),
    ("owners::users_are_added_and_become_each_other", users_are_added),
    ("owners::other_roots_have_their_own_files", other_roots),
    ("owners::odd_calls_are_answered", odd_calls),
    ("owners::packages_are_as_root_installs_them", packages),
];

/// A Debian with Python, unpacked: by root, and by the user with one id, with attributes for what isn't his.
struct Base {
    _directory: tempfile::TempDir,
    roots: PathBuf,
    users: PathBuf,
}

fn base(machine: &Machine) -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let tar = std::env::var("OCIFORGE_TEST_BASE_TAR").expect("OCIFORGE_TEST_BASE_TAR is not set: use tests/run");
        let directory = machine.directory(Who::Root);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (roots, users) = (directory.path().join("roots"), directory.path().join("users"));
        for path in [&roots, &users] {
            fs::create_dir(path).unwrap();
            run(Command::new("tar").args(["-xpf", &tar, "--same-owner", "--numeric-owner", "-C"]).arg(path));
            for name in ["/etc/resolv.conf", "/etc/hosts"] {
                fs::copy(name, path.join(&name[1..])).unwrap();
            }
            let settings = run(Command::new("apt-config").arg("dump"));
            let kept = settings.lines().filter(|line| line.starts_with("Acquire::") && !line.contains("Languages"));
            let kept = kept.collect::<Vec<_>>().join("\n");
            fs::write(path.join("etc/apt/apt.conf.d/99test"), kept + "\n").unwrap();
        }
        give_away(machine, &users);
        Base { _directory: directory, roots, users }
    })
}

/// Makes a tree the user's, with attributes that remember whose it was.
fn give_away(machine: &Machine, root: &Path) {
    let (uid, gid) = machine.one_id();
    for path in walk(root) {
        let found = fs::symlink_metadata(&path).unwrap();
        lchown(&path, Some(uid), Some(gid)).unwrap();
        if found.is_symlink() {
            continue;
        }
        if (found.uid(), found.gid()) != (0, 0) {
            let record = OwnershipRecord { uid: found.uid(), gid: found.gid(), device: None };
            setxattr(&path, ATTRIBUTE, record.to_string().as_bytes(), XattrFlags::empty()).unwrap();
        }
        fs::set_permissions(&path, found.permissions()).unwrap();
    }
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut all, mut left) = (vec![root.to_owned()], vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            left.extend(entry.file_type().unwrap().is_dir().then(|| entry.path()));
            all.push(entry.path());
        }
    }
    all
}

/// What a step has done.
struct Step {
    directory: tempfile::TempDir,
    played: Played,
    time: Duration,
}

impl Step {
    fn new(machine: &Machine, who: Who, script: &str) -> Self {
        let base = base(machine);
        let lower = if who == Who::Root { &base.roots } else { &base.users };
        let directory = machine.directory(who);
        for name in ["upper", "work", "merged"] {
            fs::create_dir(directory.path().join(name)).unwrap();
            fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
            machine.give(who, &directory.path().join(name));
        }
        let words = [lower.to_str().unwrap(), directory.path().to_str().unwrap(), "/bin/sh", "-euc", script];
        let begun = Instant::now();
        let played = machine.play(who, &[&["launch"], &words[..]].concat());
        Self { time: begun.elapsed(), directory, played }
    }

    fn ok(&self) -> &str {
        assert_eq!(self.played.code, Some(0), "{}\n{}", self.played.out, self.played.err);
        &self.played.out
    }

    /// Every file that it has written, with what the layer will say of it.
    fn files(&self) -> BTreeMap<String, String> {
        let upper = self.directory.path().join("upper");
        let table = fs::read_to_string(self.directory.path().join("table")).unwrap_or_default();
        let table: OwnershipTable = table.parse().unwrap();
        let describe = |path: PathBuf| {
            let name = path.strip_prefix(&upper).unwrap().to_string_lossy().into_owned();
            let described = if self.directory.path().join("table").exists() {
                remembered(&path, &table)
            } else {
                let found = fs::symlink_metadata(&path).unwrap();
                described(&path, found.uid(), found.gid(), found.mode(), found.rdev())
            };
            (name, described)
        };
        walk(&upper).into_iter().map(describe).collect()
    }
}

fn remembered(path: &Path, table: &OwnershipTable) -> String {
    let found = fs::symlink_metadata(path).unwrap();
    let mut value = [0; 64];
    let attribute = lgetxattr(path, ATTRIBUTE, &mut value).ok();
    let attribute = attribute.map(|length| std::str::from_utf8(&value[..length]).unwrap().parse().unwrap());
    let seen = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO | StatxFlags::BTIME).unwrap();
    let identity = FileIdentity { inode: seen.stx_ino, born: (seen.stx_btime.tv_sec, seen.stx_btime.tv_nsec) };
    let record = attribute.or_else(|| table.0.get(&identity).copied());
    let record = record.unwrap_or(OwnershipRecord { uid: 0, gid: 0, device: None });
    let (mut mode, mut rdev) = (found.mode(), found.rdev());
    if let Some(device) = record.device {
        assert_eq!(found.len(), 0);
        mode = mode & 0o7777 | if device.block { 0o60_000 } else { 0o20_000 };
        rdev = rustix::fs::makedev(device.major, device.minor);
    }
    described(path, record.uid, record.gid, mode, rdev)
}

fn described(path: &Path, uid: u32, gid: u32, mode: u32, rdev: u64) -> String {
    let mut value = [0; 64];
    // Its revision, and the namespace's root that comes at the end, depend on who made it.
    let capabilities =
        lgetxattr(path, "security.capability", &mut value).map(|length| value[4..length.min(20)].to_vec());
    // An overlay's sign that a file is gone is nobody's.
    if (mode & 0o170_000, rdev) == (0o20_000, 0) {
        return "gone".into();
    }
    format!("{mode:o} {uid}:{gid} {rdev:x} {capabilities:?}")
}

/// Plays it as root and as the user with one id: both say the same, and leave the same files.
fn same(machine: &Machine, script: &str) -> (Step, Step) {
    let roots = Step::new(machine, Who::Root, script);
    let users = Step::new(machine, Who::OneId, script);
    assert_eq!(roots.ok(), users.ok());
    assert_eq!(differences(&roots, &users), [] as [String; 0]);
    (roots, users)
}

fn differences(roots: &Step, users: &Step) -> Vec<String> {
    let (roots, users) = (roots.files(), users.files());
    let names: std::collections::BTreeSet<_> = roots.keys().chain(users.keys()).collect();
    let differing = names.into_iter().filter(|name| roots.get(*name) != users.get(*name));
    differing.map(|name| format!("{name}: {:?} {:?}", roots.get(name), users.get(name))).collect()
}

fn files_belong_to_whom_they_are_given(machine: &Machine) {
    let (_, users) = same(
        machine,
        "mkdir /t; cd /t; umask 022; s() { stat -c '%n %A %u:%g %t,%T %s' \"$@\"; }
        touch file plain; ln -s file link; mkfifo fifo; mkdir dir; ln file hard
        chown 33:44 file; chown -h 5:6 link; chown 7 fifo; chgrp 8 dir; s file plain link fifo dir hard; s -L link
        chown 9 link; s file link
        chown root:root file; s file hard; chown -h 0:0 link; s link
        touch set; chmod 6755 set; chown 12:13 set; s set; chmod 6755 set; s set
        mknod null c 1 3; mknod -m 600 disk b 259 70000; mknod pipe p; chown 1:2 null; s null disk pipe
        test -c null; test -b disk; test ! -f null
        rm plain; mv file moved; s moved hard
        install -o daemon -g 1000000 -m 2750 moved /t/installed; install -d -o mail -g mail /t/a/b; s installed a a/b
        cp -a null set dir link copies 2>/dev/null || { mkdir copies; cp -a null set dir link copies; }
        (cd copies; s null set dir link)
        chown -R 77:77 /t/a /etc/apt; s /t/a/b /etc/apt/sources.list.d
        chown -h 3:3 /bin; chown 4 /usr/bin/env; s /bin /usr/bin/env
        stat -c '%u:%g' /var/local /etc/shadow /usr/bin/chage
        s /dev/fd/0 3</t/moved >/dev/null; stat -L -c %u:%g /proc/self/fd/3 3</t/installed
        python3 -c \"
import os
f = os.open('/t/installed', os.O_RDONLY); os.fchown(f, 21, 22); print(os.fstat(f).st_uid, os.stat('/t/installed').st_gid)
os.chown('/proc/self/fd/%d' % f, 23, -1); print(os.stat(f).st_uid)
d = os.open('/t', os.O_RDONLY); os.chown('link', 31, 32, dir_fd=d, follow_symlinks=False); print(os.lstat('/t/link').st_gid)
print(os.listxattr('/t/installed'), os.listxattr(f))
\"",
    );
    assert!(users.directory.path().join("table").metadata().unwrap().len() > 0);
}

fn archives_keep_their_owners(machine: &Machine) {
    same(
        machine,
        "mkdir /t; cd /t; python3 - <<'END'
import io, tarfile
with tarfile.open('/t/a.tar', 'w') as tar:
    for number in range(300):
        for kind, letter in ((tarfile.REGTYPE, 'f'), (tarfile.SYMTYPE, 'l'), (tarfile.DIRTYPE, 'd'), (tarfile.FIFOTYPE, 'p')):
            info = tarfile.TarInfo('many/%s%d' % (letter, number))
            info.type, info.uid, info.gid, info.mode, info.linkname = kind, number * 7, 4294967293 - number, 0o755, 'x'
            tar.addfile(info)
    for kind, name in ((tarfile.CHRTYPE, 'char'), (tarfile.BLKTYPE, 'block')):
        info = tarfile.TarInfo('many/' + name)
        info.type, info.devmajor, info.devminor, info.uid, info.mode = kind, 5, 2, 0, 0o640
        tar.addfile(info)
END
        tar -xf a.tar --same-owner --numeric-owner -p
        tar -cf b.tar --numeric-owner --sort=name many; tar -tvf b.tar | awk '{print $1, $2, $3, $NF}' | sort | sha256sum
        cp -a many copied; find copied -printf '%y %U:%G %m %p\n' | sort | sha256sum
        rm -r many; find copied -uid 7 | sort",
    );
}

fn root_is_given_up(machine: &Machine) {
    same(
        machine,
        "python3 - <<'END'
import os
def attempt(call, *arguments):
    try: return call(*arguments)
    except OSError as error: return error.errno
def who(): return os.getresuid(), os.getresgid(), sorted(os.getgroups())
os.setgroups([5, 4]); print(who())
for identity in (1, 2):
    if os.fork() == 0:
        os.setresgid(identity, identity, identity); os.setresuid(identity, identity, identity)
        print(who(), attempt(os.setuid, 0), attempt(os.setgid, 0), attempt(os.setgroups, []), attempt(os.seteuid, 0), flush=True)
        # An orphan is who its parent was.
        if os.fork() == 0:
            read, write = os.pipe()
            if os.fork() == 0:
                if os.fork() != 0: os._exit(0)
                os.setsid(); print(who(), flush=True); os.write(write, b'.'); os._exit(0)
            os.wait(); os.read(read, 1); os._exit(0)
        os.wait()
        print(os.popen('id -u; id -g; id -G').read(), flush=True)
        os._exit(0)
    os.wait()
os.seteuid(9); print(who(), attempt(os.setgroups, [])); os.seteuid(0); print(who())
os.setreuid(0, 7); print(who()); os.setreuid(7, 0); print(who())
os.setuid(3); print(who(), attempt(os.setreuid, 0, -1), attempt(os.setresuid, -1, -1, 0))
END
        setpriv --reuid=12 --regid=13 --groups 14,15 id
        setpriv --reuid=12 --clear-groups python3 -c '
import threading, os
t = threading.Thread(target=lambda: print(os.getuid())); t.start(); t.join()'
        python3 -c '
import threading, os, time
stop = threading.Event(); seen = []
def loop():
    stop.wait(); seen.append(os.getresuid())
threads = [threading.Thread(target=loop) for _ in range(5)]
for t in threads: t.start()
os.setreuid(0, 5); os.setreuid(5, 0); stop.set()
for t in threads: t.join()
print(seen, os.getresuid())'
        cp /usr/bin/id /usr/bin/own; chown 31:32 /usr/bin/own; chmod 6755 /usr/bin/own
        own; setpriv --reuid=12 --regid=13 --clear-groups own
        cp /usr/bin/python3 /usr/bin/py; chmod u+s /usr/bin/py
        setpriv --reuid=12 --clear-groups py -c 'import os; print(os.getresuid()); os.setuid(0); print(os.getresuid())'
        printf '#!/bin/sh\nid -u\n' >/usr/bin/script; chmod 4755 /usr/bin/script; setpriv --reuid=12 --clear-groups script
        chmod 755 /usr/bin/own; setpriv --reuid=12 --clear-groups sh -c 'own -u; /nonexistent || :; own -u; id -u'",
    );
}

fn new_files_belong_to_their_makers(machine: &Machine) {
    same(
        machine,
        "mkdir -m 777 /t; cd /t; install -d -m 2777 -g 50 shared; echo there >exists; chmod 666 exists
        echo root >shared/roots; mkdir shared/directory; touch shared/directory/inherited; ln -s x shared/link
        cat >/t/make.py <<'END'
import os, socket, tempfile
os.umask(0o027)
for place in '/t', '/t/shared':
    os.chdir(place)
    open('file', 'w').write('text'); os.close(os.open('excl', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    try: os.open('excl', os.O_CREAT | os.O_EXCL | os.O_RDWR)
    except FileExistsError: print('exists')
    assert open('file').read() == 'text'
    os.mkdir('dir'); os.mkdir('dir/sub/', 0o700); os.symlink('nowhere', 'sym'); os.mkfifo('fifo'); os.mknod('node', 0o644)
    d = os.open('dir', os.O_RDONLY); f = os.open('at', os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o604, dir_fd=d)
    os.write(f, b'a'); os.lseek(f, 0, 0); os.write(f, b'b'); assert open('dir/at').read() == 'ab'
    import fcntl
    print(fcntl.fcntl(f, fcntl.F_GETFL) & os.O_APPEND, fcntl.fcntl(f, fcntl.F_GETFD))
    os.symlink('at', 'via', dir_fd=d); os.link('file', 'hard'); os.rename('node', 'renamed')
    with tempfile.TemporaryFile(dir='.') as t: print(os.fstat(t.fileno()).st_uid)
    f = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); os.link('/proc/self/fd/%d' % f, 'linked', src_dir_fd=d, follow_symlinks=True)
    open('/t/exists', 'a').write('more')
    os.makedirs('x' * 250 + '/' + 'y' * 250)
    try: os.open('fifo', os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error: print(error.errno)
    for bad in '', '.', 'file/x', 'missing/x':
        try: print(os.open(bad, os.O_CREAT | os.O_WRONLY))
        except OSError as error: print(error.errno)
        try: os.mkdir(bad)
        except OSError as error: print(error.errno)
    print(sorted((name, os.lstat(name).st_uid, os.lstat(name).st_gid, oct(os.lstat(name).st_mode)) for name in os.listdir('.')))
    try: os.chown('file', 0, 0)
    except PermissionError: print('refused')
    try: os.chown('/t/shared', -1, 1000)
    except PermissionError: print('refused')
    os.chown('file', -1, 20)
    os.chmod('file', 0o640)
    try: os.mknod('device', 0o20644, os.makedev(1, 3))
    except PermissionError: print('refused')
END
        setpriv --reuid=1000 --regid=1000 --groups 20,50 python3 /t/make.py",
    );
}

fn users_are_added(machine: &Machine) {
    same(
        machine,
        "groupadd -g 3000 people; useradd -r -u 999 daemonic; useradd -m -u 2000 -g people -s /bin/sh someone
        passwd -S someone >/dev/null; su someone -c 'id; touch ~/mine; stat -c %U:%G ~ ~/mine'
        su nobody -s /bin/sh -c 'id; cd /tmp; umask; mktemp -d | xargs stat -c %u:%g:%a'
        su someone -c 'su -c id' </dev/null >/dev/null 2>&1 && echo wrong
        rm -r /tmp/*
        echo 'someone:secret' | chpasswd; stat -c '%u:%g %a' /etc/shadow
        chroot --userspec=someone / id; runuser -u someone -- id -un
        userdel -r someone 2>/dev/null; ls /home; chage -l daemonic >/dev/null; getent passwd daemonic | cut -d: -f1-4",
    );
}

fn other_roots(machine: &Machine) {
    same(
        machine,
        "mkdir -p /t/root/etc /t/root/deep/er; cd /t/root; cp -a /bin /lib /lib64 . ; mkdir usr; cp -a /usr/bin /usr/lib /usr/lib64 /usr/sbin usr; ln -s usr/sbin sbin
        ln -s /etc/real etc/link; touch etc/real /etc/real
        chroot /t/root sh -c 'chown 5:6 /etc/link; stat -L -c %u:%g /etc/link; chown -h 7 /etc/link; stat -c %u /etc/link
            cd deep/er; chown 8 ../../../../etc; stat -c %u /etc /'
        stat -c %u:%g /etc/real /t/root/etc/real /t/root/etc /etc
        chroot --userspec=50:51 --groups=52 /t/root id
        chmod 777 .; chroot --userspec=50:51 /t/root sh -c 'echo >/etc/../new; mkdir /dir; ln -s / /sym; stat -c %u:%g /new /dir /sym'
        rm -r usr lib bin lib64 sbin",
    );
}

fn odd_calls(machine: &Machine) {
    let script = "mkdir /t; cd /t; python3 - <<'END'
import ctypes, os, resource, threading, time, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    returned = libc.syscall(*arguments)
    return returned, ctypes.get_errno()
bad, big = ctypes.c_void_p(8), b'/t/' + b'x' * 5000
for path in bad, big, b'', b'/t/none', b'/t/none/none', b'/proc/1/nothing':
    print(call(260, -100, path, 3, 3, 0), call(262, -100, path, ctypes.create_string_buffer(256), 0), call(258, -100, path, 0o755))
print(call(93, 77, 3, 3), call(5, 77, bad), call(260, 77, b'x', 3, 3, 0), call(116, 1, bad), call(115, 1, bad)[1] in (0, 14, 22))
print(call(116, 65537, bad), call(105, -1), call(106, -1), call(122, -1), call(115, -1, 0))
name = b'/t/\\xff\\xfe\\n'; open(name, 'w'); os.chown(name, 3, 4); print(os.stat(name).st_uid, call(262, -100, name, bad, 0))
print(call(260, -100, name, 5, 5, 0x100), call(260, -100, name, 5, 5, 0x8000)[1])
os.mkdir('/t/' + 'd' * 255); os.chown('/t/' + 'd' * 255, 9, 9)
deep = os.open('/t', os.O_RDONLY)
for _ in range(40):
    os.mkdir('z' * 200, dir_fd=deep); deep = os.open('z' * 200, os.O_RDONLY, dir_fd=deep)
os.fchdir(deep); open('deepest', 'w'); os.chown('deepest', 6, 7); print(os.stat('deepest').st_uid, os.fstat(deep).st_uid)
long = '/'.join(['.' ] * 2040) + '/deepest'; print(os.stat(long).st_uid)
os.chdir('/'); print(resource.getrlimit(10)); resource.setrlimit(10, (5, -1)); os.setegid(4); print(os.getegid(), resource.getrlimit(10)[1]); os.setegid(0)
# Many who are killed while they ask.
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        while True: os.chown(name, os.getpid() % 9, 1); os.stat(name)
    time.sleep(0.005); os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
# Signals that come while they ask.
ticks = 0
def tick(*_):
    global ticks; ticks += 1
signal.signal(signal.SIGALRM, tick); signal.siginterrupt(signal.SIGALRM, False); signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
for number in range(2000):
    os.chown(name, number, number); assert os.stat(name).st_uid == number
if os.fork() == 0:
    os.setuid(5)
    for number in range(500): os.mkdir('/tmp/%d' % number)
    for number in range(500): os.close(os.open('/tmp/f%d' % number, os.O_CREAT | os.O_EXCL))
    for number in range(500): os.rmdir('/tmp/%d' % number); os.unlink('/tmp/f%d' % number)
    os._exit(0)
print(os.wait()[1]); signal.setitimer(signal.ITIMER_REAL, 0); print(ticks > 10)
os.chown(name, 8, 8)
END
    rm -r /t/zz*; mkfifo /t/fifo; chown 3:3 /t/fifo; stat -c %u /t/fifo
    mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone; chown 3 . && stat -c %u .; touch x || :
    exec 5>/tmp/deleted; rm /tmp/deleted; chown 11 /proc/self/fd/5 && stat -L -c %u /proc/self/fd/5";
    same(machine, script);
}

fn packages(machine: &Machine) {
    let script = "apt-get update -qq >/dev/null; apt-get install -y -qq --no-install-recommends dbus postgresql-common \
                  iputils-ping sudo openssh-client cron man-db exim4-daemon-light >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
                  rm /tmp/log; ping -V >/dev/null; getcap /bin/ping || :; stat -c '%U:%G %a' /usr/bin/sudo /usr/bin/ssh-agent
                  useradd -m admin; echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin
                  su admin -c 'sudo id; sudo -u nobody id -un'";
    let roots = Step::new(machine, Who::Root, script);
    let users = Step::new(machine, Who::OneId, script);
    println!("packages installed in {:?} by root, in {:?} with one id", roots.time, users.time);
    assert_eq!(roots.ok(), users.ok());
    assert_eq!(differences(&roots, &users), [] as [String; 0]);
}

//! Files are given to others by all kinds of programs, and real packages installed with real maintainer scripts: by root,
//! by a user with ranges of ids, and by one without.
//!
//! Debian: uidmap

use std::path::Path;

use super::support::{Builds, DEBIAN, assert_same, digests, tool};

/// What programs do that give files to others, or become others.
const OWNERS: &str = r#"
set -e
mkdir -p /srv/a /srv/others; echo content > /srv/a/file; chown 33:34 /srv/a/file; chmod 4755 /srv/a/file
ln /srv/a/file /srv/hard; mkfifo -m 640 /srv/fifo; chown nobody:nogroup /srv/fifo; ln -s a /srv/link; chown -h 7:8 /srv/link
chown 1000:1001 /srv/a; chmod 2750 /srv/a; touch /srv/a/inherits; stat -c '%n %a %u:%g' /srv/* /srv/a/*
chown -R daemon:bin /usr/share/doc/python3 2>/dev/null || chown -R daemon:bin /usr/share/base-files
rm /etc/debian_version; rm -r /etc/skel; mkdir /etc/skel; echo n > /etc/skel/new; mv /etc/pam.d /etc/moved; mv /etc/moved /etc/pam.d
chmod 1777 /srv/others
su -s /bin/sh www-data -c 'id; echo mine > /srv/others/mine; mkdir /srv/others/dir'
setpriv --reuid 5 --regid 6 --clear-groups sh -c 'id; touch /srv/others/five; stat -c %u:%g /srv/others/*'
/usr/sbin/useradd --system --create-home --home-dir /srv/home joe; stat -c '%U:%G' /srv/home
mkdir /tmp/t; echo x > /tmp/t/x; chown 12:13 /tmp/t/x
tar --create --file /tmp/t.tar --owner=21:21 --group=22 -C /tmp t; tar --extract --file /tmp/t.tar -C /srv; rm -r /tmp/t /tmp/t.tar
cp -a /srv/a /srv/copied; install -o 4 -g 5 -m 6711 /srv/a/file /srv/installed
python3 - <<'PY'
import os, pwd, shutil, socket
os.setxattr('/srv/installed', 'user.colour', b'red')
shutil.copy('/srv/a/file', '/srv/capable')
os.setxattr('/srv/capable', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
shutil.chown('/srv/capable', 'root', 'games')
os.setxattr('/srv/capable', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
with open('/srv/sparse', 'wb') as file: file.truncate(3 << 20); file.seek(1 << 20); file.write(b'x')
os.mkfifo(b'/srv/\xff\xfe'); os.chown(b'/srv/\xff\xfe', 65533, 65532)
os.open('/srv/' + 'n' * 255, os.O_CREAT, 0)
PY
ls -l /srv | awk '{ print $1, $3, $4 }'
"#;

/// dbus has a system user and a setuid program, iputils-ping file capabilities, sudo setuid programs.
const PACKAGES: &str = "dbus iputils-ping sudo";

/// What is not the same even if the same user installs twice: logs with times, a cache with times and inodes, a random
/// number. The lists are those of the moment.
const OTHERWISE: [&str; 5] =
    ["var/log/apt", "var/log/dpkg.log", "var/cache/ldconfig/aux-cache", "var/lib/dbus/machine-id", "var/lib/apt/lists"];

fn recipe() -> String {
    format!(
        "[[layer]]\nrun = '''{OWNERS}'''\nenv = {{ SOURCE_DATE_EPOCH = '1' }}
         [[layer]]\nrun = 'apt-get update && apt-get install -y --no-install-recommends {PACKAGES}'\nnetwork = 'host'
         env = {{ DEBIAN_FRONTEND = 'noninteractive', PATH = '/usr/sbin:/usr/bin:/sbin:/bin' }}
         mounts = [{{ bind = 'apt.conf', to = '/etc/apt/apt.conf.d/99test' }}, {{ cache = '/var/cache/apt' }}]\n"
    )
}

#[test]
fn three_ways_to_own_files_make_one_image() {
    // The machine's proxy and the like, so that this works wherever apt does; the sources are the base's.
    let dates = ["Acquire::Check-Valid-Until", "Acquire::Check-Date"];
    let settings = tool("apt-config", &[&["dump", "Acquire::http", "Acquire::https"], &dates[..]].concat());
    let built = Builds::each(|builds| {
        builds.place.write("r/apt.conf", &settings);
        builds.recipe_on(&DEBIAN.image, &recipe());
        let said = builds.said(&[]);
        let [owners, apt] = [0, 1].map(|n| builds.tree(&builds.layers()[n]));
        // What apt says has times in it.
        let said: Vec<_> = said.lines().take_while(|line| !line.contains("http")).map(str::to_owned).collect();
        let apt = apt.into_iter().filter(|(path, _)| !OTHERWISE.iter().any(|except| path.starts_with(except)));
        (said, owners, apt.collect(), builds.layers())
    });
    let [(said, owners, apt, layers), others @ ..] = &built;
    for (others_said, others_owners, others_apt, others_layers) in others {
        assert_eq!(said, others_said);
        assert_same(owners, others_owners);
        assert_eq!(digests(&layers[..1]), digests(&others_layers[..1]));
        assert_same(apt, others_apt);
    }
    for (tree, path, expected) in [
        (owners, "srv/a/file", "104755 33:34 "),
        (owners, "srv/a/inherits", "100644 0:1001 "),
        (owners, "srv/others/mine", "100644 33:33 "),
        (owners, "srv/others/five", "100644 5:6 "),
        (owners, "srv/installed", "106711 4:5 "),
        (owners, "srv/capable", "100755 0:60 "),
        (owners, "srv/t/x", "100644 21:22 "),
        (apt, "usr/bin/sudo", "104755 0:0 "),
        (apt, "usr/bin/ping", "100755 0:0 "),
        (apt, "etc/sudoers", "100440 0:0 "),
        (apt, "usr/lib/dbus-1.0/dbus-daemon-launch-helper", "104754 0:"),
    ] {
        let found = tree.get(Path::new(path)).unwrap_or_else(|| panic!("no {path}"));
        assert!(found.starts_with(expected), "{path}: {found}");
    }
    let capability = "security.capability=0100000200200000000000000000000000000000";
    assert!(
        apt[Path::new("usr/bin/ping")].contains(capability) && owners[Path::new("srv/capable")].contains(capability)
    );
    assert!(apt.keys().all(|path| !path.starts_with("var/cache/apt") && !path.ends_with("99test")));
}

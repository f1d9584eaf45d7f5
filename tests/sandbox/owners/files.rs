//! Owners of files: given, unpacked, given up and inherited.

use super::*;

pub(super) fn files_belong_to_whom_they_are_given(machine: &Machine) {
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

pub(super) fn archives_keep_their_owners(machine: &Machine) {
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

pub(super) fn root_is_given_up(machine: &Machine) {
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

pub(super) fn new_files_belong_to_their_makers(machine: &Machine) {
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

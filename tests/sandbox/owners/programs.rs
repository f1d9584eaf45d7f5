//! Programs that change users and roots, odd system calls, and packages.

use super::*;

pub(super) fn users_are_added(machine: &Machine) {
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

pub(super) fn other_roots(machine: &Machine) {
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

pub(super) fn odd_calls(machine: &Machine) {
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

pub(super) fn packages(machine: &Machine) {
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

//! Python: what its standard library asks of the kernel.

use std::time::Duration;

use crate::support::scenario::Scenario;

fn python(name: &'static str, program: &str) -> Scenario {
    // Unbuffered: what is printed before a fork or an exec is neither doubled nor lost.
    Scenario::sh(name, "exec python3 -u -").input(program)
}

#[test]
fn threads_and_locks() {
    python(
        "python-threads",
        r#"
import concurrent.futures, queue, signal, sys, threading, time
total, lock = 0, threading.Lock()
def work(n):
    global total
    for _ in range(n):
        with lock: total += 1
threads = [threading.Thread(target=work, args=(2000,)) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]; print(total)
q = queue.Queue(maxsize=4)
def produce():
    for n in range(500): q.put(n)
    q.put(None)
threading.Thread(target=produce).start(); print(sum(iter(q.get, None)))
with concurrent.futures.ThreadPoolExecutor(16) as pool: print(sum(pool.map(lambda n: n * n, range(1000))))
event, barrier = threading.Event(), threading.Barrier(4)
def meet(): barrier.wait(); event.wait()
waiting = [threading.Thread(target=meet) for _ in range(3)]; [t.start() for t in waiting]; barrier.wait(); event.set(); [t.join() for t in waiting]
print(event.wait(0), threading.Event().wait(0.01), threading.active_count())
condition = threading.Condition(); ready = []
def notify():
    with condition: ready.append(1); condition.notify()
with condition: threading.Thread(target=notify).start(); print(condition.wait_for(lambda: ready, 30))
many = [threading.Thread(target=event.wait) for _ in range(200)]; [t.start() for t in many]; [t.join() for t in many]; print(len(many))
timer = threading.Timer(0.01, lambda: print('timer')); timer.start(); timer.join()
got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(threading.current_thread() is threading.main_thread())); threading.Thread(target=lambda: signal.raise_signal(signal.SIGUSR1)).start()
while not got: time.sleep(0.001)
print(got, threading.get_native_id() > 0); sys.setswitchinterval(1e-5); threading.Thread(target=work, args=(5000,)).start(); work(5000)
"#,
    )
    .compare();
}

#[test]
fn subprocesses() {
    python(
        "python-subprocess",
        r#"
import os, signal, subprocess, sys
run = subprocess.run
print(run(['sh', '-c', 'cat; echo err >&2; exit 3'], input=b'input', capture_output=True))
print(run('echo $0 | tr a-z A-Z', shell=True, capture_output=True, text=True).stdout)
print(run(['sh', '-c', 'kill -TERM $$']).returncode, run(['true'], close_fds=False).returncode, run(['false'], start_new_session=True).returncode)
try: run(['sleep', '100'], timeout=0.05)
except subprocess.TimeoutExpired as e: print('timeout', e.cmd)
try: run(['missing-command'])
except FileNotFoundError as e: print(e)
try: run(['/etc/passwd'])
except PermissionError as e: print(e)
try: run(['pwd'], cwd='/missing')
except FileNotFoundError as e: print(e)
p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE); print(p.communicate(b'x' * 300000)[0] == b'x' * 300000)
p = subprocess.Popen(['sleep', '100']); p.send_signal(signal.SIGSTOP); print(os.waitpid(p.pid, os.WUNTRACED)[1] >> 8); p.send_signal(signal.SIGCONT); p.kill(); print(p.wait())
a = subprocess.Popen(['seq', '1000'], stdout=subprocess.PIPE); b = subprocess.Popen(['wc', '-l'], stdin=a.stdout, stdout=subprocess.PIPE); a.stdout.close(); print(b.communicate()[0], a.wait())
print(run(['sh', '-c', 'echo $A; umask; id -u; ls -l /proc/self/fd | grep -c pipe'], env={'A': 'b', 'PATH': os.environ['PATH']}, umask=0o77, user='alice', capture_output=True).stdout)
print([p.wait() for p in [subprocess.Popen(['sh', '-c', f'exit {n}']) for n in range(20)]])
r, w = os.pipe(); run(['sh', '-c', f'echo passed >&{w}'], pass_fds=[w]); print(os.read(r, 100))
print(os.system('exit 4') >> 8, os.popen('echo popen').read(), os.posix_spawn('/bin/true', ['true'], {}) > 0, os.wait()[1])
sys.stdout.flush(); pid, fd = os.forkpty()
if pid == 0: print(os.isatty(0), os.get_terminal_size(1).columns >= 0); sys.stdout.flush(); os._exit(6)
out = b''
try:
    while chunk := os.read(fd, 1000): out += chunk
except OSError as e: print(e.strerror)
print(out, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#,
    )
    .compare();
}

/// A file, since the children of `spawn` import it.
#[test]
fn multiprocessing() {
    Scenario::sh(
        "python-multiprocessing",
        r#"
cat >/tmp/m.py <<'here'
import multiprocessing as mp, os, sys, time
from multiprocessing import shared_memory
def square(n): return n * n
def fail(n): raise ValueError(n)
def put(q, n): q.put((n, 'x' * 100000))
def add(counter, array, lock):
    for i in range(200):
        with lock: counter.value += 1; array[i % 10] += 1
def fill(name): s = shared_memory.SharedMemory(name); s.buf[:5] = b'child'; s.close()
def talk(conn): conn.send(conn.recv()[::-1]); conn.close()
def wait(event, barrier): barrier.wait(); event.wait()
def leave(): sys.exit(7)
def main(method):
    c = mp.get_context(method)
    with c.Pool(4) as pool:
        print(sum(pool.map(square, range(500))), pool.apply_async(square, (12,)).get(60), sorted(pool.imap_unordered(square, range(6), chunksize=2)))
        try: pool.apply(fail, (3,))
        except ValueError as e: print('failed', e)
    q = c.Queue(); ps = [c.Process(target=put, args=(q, n)) for n in range(4)]; [p.start() for p in ps]; print(sorted((n, len(t)) for n, t in (q.get(timeout=60) for _ in ps))); [p.join() for p in ps]
    counter, array, lock = c.Value('i', 0), c.Array('i', 10), c.Lock(); ps = [c.Process(target=add, args=(counter, array, lock)) for _ in range(3)]; [p.start() for p in ps]; [p.join() for p in ps]; print(counter.value, sum(array))
    s = shared_memory.SharedMemory(create=True, size=100); p = c.Process(target=fill, args=(s.name,)); p.start(); p.join(); print(bytes(s.buf[:5])); s.close(); s.unlink()
    a, b = c.Pipe(); p = c.Process(target=talk, args=(b,)); p.start(); a.send([1, 2, 3]); print(a.recv()); p.join()
    event, barrier = c.Event(), c.Barrier(3); ps = [c.Process(target=wait, args=(event, barrier)) for _ in range(2)]; [p.start() for p in ps]; barrier.wait(); event.set(); [p.join() for p in ps]; print([p.exitcode for p in ps])
    p = c.Process(target=leave); p.start(); p.join(); print(p.exitcode); p = c.Process(target=time.sleep, args=(100,)); p.start(); p.terminate(); p.join(); print(p.exitcode)
    with c.Manager() as manager: d = manager.dict(a=1); d['b'] = 2; l = manager.list([1]); l.append(2); print(dict(d), list(l))
if __name__ == '__main__':
    for method in ('fork', 'spawn', 'forkserver'): print(method); main(method)
    print([name for name in os.listdir('/dev/shm') if not name.startswith('sem.')])
here
python3 /tmp/m.py
"#,
    )
    .limit(Duration::from_secs(300))
    .compare();
}

#[test]
fn asyncio_runs_everything_at_once() {
    python(
        "python-asyncio",
        r#"
import asyncio, os, signal, socket, tempfile
async def child(n):
    p = await asyncio.create_subprocess_exec('sh', '-c', f'read x; echo $x {n}; exit {n}', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate(b'in\n'); return out, p.returncode
async def main():
    print(await asyncio.gather(*(child(n) for n in range(10))))
    async def echo(reader, writer):
        while line := await reader.readline(): writer.write(line.upper()); await writer.drain()
        writer.close()
    path = tempfile.mkdtemp() + '/s'; server = await asyncio.start_unix_server(echo, path)
    async def client(n):
        reader, writer = await asyncio.open_unix_connection(path)
        for i in range(10): writer.write(b'line %d %d\n' % (n, i)); assert await reader.readline() == b'LINE %d %d\n' % (n, i)
        writer.close(); await writer.wait_closed(); return n
    print(sum(await asyncio.gather(*(client(n) for n in range(50))))); server.close()
    try: await asyncio.wait_for(asyncio.sleep(100), 0.01)
    except asyncio.TimeoutError: print('timeout')
    loop = asyncio.get_running_loop(); got = loop.create_future(); loop.add_signal_handler(signal.SIGUSR2, got.set_result, 'signal'); os.kill(os.getpid(), signal.SIGUSR2); print(await got)
    print(await loop.run_in_executor(None, lambda: sum(range(1000)))); print(await asyncio.to_thread(os.path.exists, path))
    a, b = socket.socketpair(); a.setblocking(False); b.setblocking(False); await loop.sock_sendall(a, b'hello'); print(await loop.sock_recv(b, 100))
    lock, order = asyncio.Lock(), []
    async def ordered(n):
        async with lock: await asyncio.sleep(0); order.append(n)
    await asyncio.gather(*(ordered(n) for n in range(20))); print(order == list(range(20)))
asyncio.run(main())
"#,
    )
    .compare();
}

#[test]
fn sockets_and_polling() {
    python(
        "python-sockets",
        r#"
import array, os, select, selectors, socket, struct, tempfile
d = tempfile.mkdtemp(); path = d + '/s'
server = socket.socket(socket.AF_UNIX); server.bind(path); server.listen(5); print(os.path.exists(path), server.getsockname() == path)
if (pid := os.fork()) == 0:
    c = socket.socket(socket.AF_UNIX); c.connect(path); c.sendall(b'a' * 1000000); c.shutdown(socket.SHUT_WR); print(len(c.recv(100)), flush=True); os._exit(0)
conn, _ = server.accept(); size = 0
while chunk := conn.recv(65536): size += len(chunk)
print(size, struct.unpack('3i', conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:], flush=True); conn.send(b'done'); os.waitpid(pid, 0)
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.send(b'one'); a.send(b'two'); print(b.recv(100), b.recv(100)); a.send(b''); print(b.recv(1))
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET); a.send(b'packet one'); a.send(b'second'); print(b.recv(3), b.recv(100)); a.close(); print(b.recv(10))
a, b = socket.socketpair(); r, w = os.pipe(); socket.send_fds(a, [b'fds'], [w, 1]); data, fds, flags, _ = socket.recv_fds(b, 100, 5); os.write(fds[0], b'through'); print(data, len(fds), os.read(r, 100)); [os.close(f) for f in fds]
b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1); a.send(b'c'); data, anc, *_ = b.recvmsg(10, 100); print(data, [(l, t, struct.unpack('3i', x)[1:]) for l, t, x in anc])
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\0abstract'); abstract.listen(); c = socket.socket(socket.AF_UNIX); c.connect('\0abstract'); print(abstract.accept()[0].fileno() > 0, c.getpeername())
try: socket.socket(socket.AF_UNIX).connect(d + '/missing')
except OSError as e: print(e.strerror)
try: socket.socket(socket.AF_UNIX).bind(path)
except OSError as e: print(e.strerror)
a.settimeout(0.01)
try: a.recv(1)
except TimeoutError as e: print('timeout')
a, b = socket.socketpair(); b.close()
try: a.send(b'x')
except BrokenPipeError as e: print(e.strerror)
r, w = os.pipe(); ep = select.epoll(); ep.register(r, select.EPOLLIN | select.EPOLLET); print(ep.poll(0)); os.write(w, b'x'); print(len(ep.poll(1)), ep.poll(0)); os.write(w, b'y'); print(len(ep.poll(1))); os.close(w); print([e for _, e in ep.poll(1)])
r, w = os.pipe(); p = select.poll(); p.register(r, select.POLLIN); p.register(w, select.POLLOUT); print(len(p.poll(0))); print(select.select([r], [w], [], 0)[1] == [w]); os.write(w, b'z'); print(select.select([r], [], [], 5)[0] == [r]); os.close(r); print([e & select.POLLERR for _, e in p.poll(0) if e])
sel = selectors.DefaultSelector(); x, y = socket.socketpair(); sel.register(x, selectors.EVENT_READ, 'x'); print(sel.select(0)); y.send(b'1'); print([k.data for k, _ in sel.select(5)])
os.set_blocking(w, False); f = os.eventfd(3); os.eventfd_write(f, 4); print(os.eventfd_read(f), os.memfd_create('m') > 0)
r, w = os.pipe(); os.set_blocking(w, False); n = 0
try:
    while True: n += os.write(w, b'x' * 4096)
except BlockingIOError: print(n)
"#,
    )
    .compare();
}

#[test]
fn files_and_memory() {
    python(
        "python-files",
        r#"
import errno, fcntl, glob, mmap, os, pathlib, resource, shutil, stat, sys, tempfile, time
with tempfile.TemporaryDirectory() as d:
    p = pathlib.Path(d); (p / 'a' / 'b').mkdir(parents=True); (p / 'a' / 'f').write_text('text' * 1000); os.symlink('f', p / 'a' / 'l'); os.link(p / 'a' / 'f', p / 'a' / 'h')
    print(sorted(x.name for x in p.rglob('*')), (p / 'a' / 'f').stat().st_nlink, os.readlink(p / 'a' / 'l')); shutil.copytree(p / 'a', p / 'c', symlinks=True); shutil.move(p / 'c', p / 'e'); print(sorted(os.listdir(p / 'e')), shutil.disk_usage(d).total > 0)
    f = open(p / 'x', 'w+b'); f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 0); m[5:10] = b'hello'; m.flush(); f.seek(5); print(f.read(5), len(m)); m.resize(1 << 21); print(os.path.getsize(p / 'x')); m.close()
    fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)
    if os.fork() == 0:
        g = open(p / 'x', 'r+b')
        for lock in (fcntl.flock, fcntl.lockf):
            try: lock(g, fcntl.LOCK_EX | fcntl.LOCK_NB); print('locked')
            except OSError as e: print(errno.errorcode[e.errno])
        sys.stdout.flush(); os._exit(0)
    os.wait(); os.pwrite(f.fileno(), b'p', 100); print(os.pread(f.fileno(), 1, 100), os.preadv(f.fileno(), [bytearray(3)], 5), os.lseek(f.fileno(), 0, os.SEEK_DATA), os.fstat(f.fileno()).st_blocks < 4096)
    os.setxattr(p / 'x', 'user.key', b'value'); print(os.listxattr(p / 'x'), os.getxattr(p / 'x', 'user.key')); os.utime(p / 'x', ns=(1, 2)); print((p / 'x').stat().st_mtime_ns); os.chmod(p / 'x', 0o4711); os.chown(p / 'x', 12, 34); s = os.stat(p / 'x'); print(stat.filemode(s.st_mode), s.st_uid, s.st_gid)
    for action in (lambda: os.rmdir(p / 'a'), lambda: os.mkdir(p / 'a'), lambda: open(p), lambda: os.listdir(p / 'x'), lambda: open(p / 'x' / 'y'), lambda: os.rename(p / 'a', p / 'a' / 'b' / 'c'), lambda: os.link(p / 'a', p / 'k'), lambda: os.unlink(p / 'a'), lambda: os.open(p / 'new', os.O_CREAT | os.O_EXCL) and os.open(p / 'new', os.O_CREAT | os.O_EXCL), lambda: open('/' + 'n' * 256), lambda: os.read(999, 1), lambda: os.lseek(0, 0, 5)):
        try: action(); print('done')
        except OSError as e: print(errno.errorcode[e.errno])
    r = os.open(d, os.O_RDONLY); os.mkdir('at', dir_fd=r); print(os.stat('at', dir_fd=r).st_mode & 0o777 == 0o755, sorted(e.name for e in os.scandir(r))); os.mkfifo(p / 'fifo'); fd = os.open(p / 'fifo', os.O_RDWR | os.O_NONBLOCK); os.write(fd, b'q'); print(os.read(fd, 5)); print(os.sendfile(fd, f.fileno(), 5, 5), os.read(fd, 9), os.copy_file_range(f.fileno(), os.open(p / 'cp', os.O_CREAT | os.O_WRONLY), 10, 5))
    print(glob.glob('e/*', root_dir=d)[:0], tempfile.mkstemp(dir=d)[0] > 2, tempfile.TemporaryFile(dir=d).write(b'x'), os.statvfs(d).f_namemax, os.pathconf(d, 'PC_NAME_MAX'))
anon = mmap.mmap(-1, 1 << 16)
if os.fork() == 0: anon[:2] = b'ok'; os._exit(0)
os.wait(); print(anon[:2]); big = bytearray(200 << 20); big[-1] = 1; del big
print(resource.getrlimit(resource.RLIMIT_CORE)[0] >= -1, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 1000, os.getloadavg()[0] >= 0, os.cpu_count() > 0, len(os.sched_getaffinity(0)) > 0, os.uname().sysname, time.clock_gettime(time.CLOCK_MONOTONIC) > 0, time.clock_getres(time.CLOCK_REALTIME) < 1, len(os.urandom(16)), os.getrandom(4) != b'')
print(os.getpgrp() == os.getpgid(0), os.getsid(0) > 0, os.getppid() >= 0, os.umask(0o22), os.nice(0), os.ctermid(), os.getgroups(), os.getresuid()); os.execv('/bin/echo', ['echo', 'replaced'])
"#,
    )
    .compare();
}

#[test]
fn signals_and_timers() {
    python(
        "python-signals",
        r#"
import os, signal, sys, time
seen = []
for s in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGRTMIN, signal.SIGRTMIN + 3): signal.signal(s, lambda n, f: seen.append(n)); os.kill(os.getpid(), s)
print(sorted(seen)); seen.clear()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2]); os.kill(os.getpid(), signal.SIGUSR1); print(seen, sorted(signal.sigpending())); print(signal.sigwait([signal.SIGUSR1])); os.kill(os.getpid(), signal.SIGUSR2); i = signal.sigwaitinfo([signal.SIGUSR2]); print(i.si_signo, i.si_pid == os.getpid(), i.si_uid, i.si_code); print(signal.sigtimedwait([signal.SIGUSR2], 0.01))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1, signal.SIGUSR2])
signal.signal(signal.SIGALRM, lambda *a: seen.append('alarm')); signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
while len(seen) < 3: signal.pause()
signal.setitimer(signal.ITIMER_REAL, 0); print(seen[:3]); seen.clear()
signal.signal(signal.SIGVTALRM, lambda *a: seen.append('virtual')); signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)
while not seen: pass
print(seen); r, w = os.pipe(); signal.set_wakeup_fd(w, warn_on_full_buffer=False) if os.set_blocking(w, False) is None else 0; os.kill(os.getpid(), signal.SIGHUP); print(os.read(r, 1))
try:
    signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT); time.sleep(10)
except KeyboardInterrupt: print('interrupt')
def child(action):
    if (pid := os.fork()) == 0: action(); os._exit(0)
    return os.waitpid(pid, 0)[1]
import ctypes, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); sys.stdout.flush()
print(child(lambda: ctypes.string_at(0)), child(os.abort), child(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN) and os.kill(os.getpid(), 15)), child(lambda: os.kill(os.getpid(), signal.SIGPIPE) or print('ignored')), child(lambda: signal.signal(signal.SIGALRM, signal.SIG_DFL) and signal.alarm(1) or time.sleep(30)))
if (pid := os.fork()) == 0: signal.pause()
if (group := os.fork()) == 0: os.setpgid(0, 0); os.fork() or signal.pause(); signal.pause()
while os.getpgid(group) != group: time.sleep(0.01)
fd = os.pidfd_open(group); signal.pidfd_send_signal(fd, signal.SIGTERM, None, 4); print(os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status)
fd = os.pidfd_open(pid); signal.pidfd_send_signal(fd, signal.SIGKILL); print(os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status)
"#,
    )
    .compare();
}

//! Input and output ports, the hardware clock and the kernel's log, as a guest on both platforms. Nothing here runs natively: it would reach the
//! machine's own devices.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{UVM, rootfs, text};

const PLATFORMS: [&str; 2] = ["seccomp", "ptrace"];

/// `uvm run` of a command in `root`, which may use ports.
fn run(platform: &str, options: &[&str], root: &Path, command: &[&str]) -> Output {
    let output = Command::new(UVM)
        .args(["run", "--platform", platform])
        .args(options)
        .arg(root)
        .arg("--")
        .args(command)
        .output();
    output.expect("run uvm")
}

/// What a successful command wrote.
fn told(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    out.into_owned()
}

/// The program of all checks, built for this test.
fn checks() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ports/ports.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(status.expect("run the C compiler `cc`").success());
    program
}

#[test]
fn programs_find_the_devices() {
    let program = checks();
    let program = text(&program);
    let clocks: [&[&str]; 3] = [&[], &["--clock", "rate=2"], &["--clock", "travel"]];
    for platform in PLATFORMS {
        for clock in clocks {
            let output = run(platform, clock, Path::new("/"), &[program]);
            let out = told(&output);
            let passed = out.lines().filter(|line| line.starts_with("ok "));
            assert_eq!(passed.count(), out.lines().count(), "{platform} {clock:?}: {out}");
        }
    }
}

#[test]
fn dd_reads_and_writes_ports() {
    let script = "printf '\\245' | dd of=/dev/port bs=1 seek=128 count=1 status=none
        dd if=/dev/port bs=1 skip=$((0x7f)) count=3 status=none | od -An -tx1
        printf '\\15' | dd of=/dev/port bs=1 seek=$((0x70)) status=none
        dd if=/dev/port bs=1 skip=$((0x71)) count=1 status=none | od -An -tx1";
    for platform in PLATFORMS {
        let output = run(platform, &[], rootfs(), &["sh", "-c", script]);
        assert_eq!(told(&output), " ff a5 ff\n 80\n", "{platform}");
    }
}

#[test]
fn hwclock_shows_and_sets() {
    // In whole minutes, as a second may pass anywhere.
    let script = "hwclock --show --utc | cut -c1-16; date -u '+%F %R'
        hwclock --set --utc --date '2031-05-06 07:08:10'; hwclock --show --utc | cut -c1-16
        hwclock --directisa --show --utc | cut -c1-16
        cut -c1-5 /sys/class/rtc/rtc0/time; cat /sys/class/rtc/rtc0/date
        grep ^rtc_date /proc/driver/rtc
        date -u -s '2030-01-02 03:04:05' > /dev/null; hwclock --show --utc | cut -c1-13
        hwclock --systohc --utc; hwclock --show --utc | cut -c1-16
        hwclock --set --utc --date '2031-05-06 07:08:10'; hwclock --hctosys --utc; date -u '+%F %R'";
    // Nearly all of it is waiting for the next second, which guests can do together.
    std::thread::scope(|scope| {
        for platform in PLATFORMS {
            for clock in ["host", "offset=+0s", "travel"] {
                scope.spawn(move || {
                    let options = ["--clock", clock];
                    let output = run(platform, &options, rootfs(), &["sh", "-c", script]);
                    let out = told(&output);
                    let (first, rest) = out.split_at(34);
                    let (shown, date) = first.split_at(17);
                    assert!(shown <= date, "{platform} {clock}: {out}");
                    assert_eq!(
                        rest,
                        "2031-05-06 07:08\n2031-05-06 07:08\n07:08\n2031-05-06\nrtc_date\t: 2031-05-06\n\
                         2031-05-06 07\n2030-01-02 03:04\n2031-05-06 07:08\n",
                        "{platform} {clock}"
                    );
                });
            }
        }
    });
}

#[test]
fn setserial_finds_the_serial_port() {
    let script = "setserial -g /dev/ttyS0; setserial -a /dev/ttyS0
        setserial /dev/ttyS0 spd_vhi && setserial -G /dev/ttyS0
        setserial /dev/ttyS0 irq 3 || setserial -b /dev/ttyS0; setserial -g /dev/ttyS1 || true";
    for platform in PLATFORMS {
        // This machine's own, by its package; what it finds is the guest's port.
        let output = run(platform, &[], Path::new("/"), &["sh", "-c", script]);
        assert_eq!(
            told(&output),
            "/dev/ttyS0, UART: 16550A, Port: 0x03f8, IRQ: 4\n\
             /dev/ttyS0, Line 0, UART: 16550A, Port: 0x03f8, IRQ: 4\n\
             \tBaud_base: 115200, close_delay: 50, divisor: 0\n\tclosing_wait: 3000\n\tFlags: spd_normal skip_test\n\n\
             /dev/ttyS0 uart 16550A port 0x03f8 irq 4 baud_base 115200 spd_vhi skip_test\n\
             /dev/ttyS0 at 0x03f8 (irq = 4) is a 16550A (spd_vhi)\n",
            "{platform}"
        );
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            told, "Cannot set serial info: Invalid argument\n/dev/ttyS1: No such file or directory\n",
            "{platform}"
        );
    }
}

#[test]
fn dmesg_shows_what_was_written_to_kmsg() {
    let script = "dmesg; exec 3</dev/kmsg; echo '<3>first' >/dev/kmsg; printf 'a\\tb' >/dev/kmsg
        head -c 2000 /dev/zero 2>/dev/null | dd of=/dev/kmsg bs=2000 status=none || echo refused
        dmesg | cut -c16-; dmesg -S -r | cut -c1-5,19-; timeout 1 dd bs=1000 count=2 status=none <&3 | tr , '\\n' | grep -v -x '[0-9]*'
        dd bs=1000 iflag=nonblock status=none <&3 || echo no more
        dmesg -C; dmesg; dmesg -S; exec 3</dev/kmsg; dd bs=1000 count=2 status=none <&3 >/dev/null
        { sleep 1; echo late >/dev/kmsg; } & dd bs=1000 count=1 status=none <&3 | cut -d';' -f2
        setpriv --reuid 1000 --clear-groups sh -c 'echo no >/dev/kmsg; dmesg | wc -l'";
    for platform in PLATFORMS {
        let output = run(platform, &["--clock", "travel"], rootfs(), &["sh", "-c", script]);
        assert_eq!(
            told(&output),
            "refused\nfirst\na\tb\n<11>[ first\n<12>[ a\tb\n-;first\n-;a\\x09b\nno more\nlate\n1\n",
            "{platform}"
        );
    }
}

//! `--cpu` and `--cpus`: what programs of a distribution make of the processor that they are shown.

use super::{assert_told, assert_writes, guest, uvm};

/// Flags of x86-64-v2, v3 and v4 that the level below does not have.
const LEVELS: [&str; 3] = ["sse4_2", "avx2", "avx512f"];

#[test]
fn a_level_is_shown_by_every_way_to_ask() {
    let script = "grep -c ^processor /proc/cpuinfo; nproc; cat /sys/devices/system/cpu/online; \
        for flag in sse4_2 avx2 avx512f hypervisor; do grep -cw $flag /proc/cpuinfo; done; \
        /lib64/ld-linux-x86-64.so.2 --help | sed -n 's/^ *\\(x86-64-v[2-4]\\) (supported.*/\\1/p' | sort | xargs";
    for (level, searched) in [
        ("v1", ""),
        ("v2", "x86-64-v2"),
        ("v3", "x86-64-v2 x86-64-v3"),
        ("v4", "x86-64-v2 x86-64-v3 x86-64-v4"),
    ] {
        let cpu = format!("x86-64-{level}");
        let told = guest(&["--cpu", &cpu, "--cpus", "3"], script);
        if told.stderr.contains("processor lacks") || told.stderr.contains("cannot have CPUID fault") {
            continue;
        }
        let number: usize = level[1..].parse().expect("a number");
        let flags: String = (0..LEVELS.len())
            .map(|at| if at + 1 < number { "3\n" } else { "0\n" })
            .collect();
        assert_writes(&told, &format!("3\n3\n0-2\n{flags}3\n{searched}\n"));
    }
}

#[test]
fn features_are_added_and_taken_away() {
    let script = "grep -ow -e sse2 -e avx2 -e avx -e aes -e fma -e bmi2 /proc/cpuinfo | sort | xargs";
    let without = guest(&["--cpu", "host,-avx,-aes", "--cpus", "1"], script);
    assert!(
        without.status == 0 && without.stdout.contains("sse2"),
        "{without:?}"
    );
    assert!(
        !without.stdout.contains("avx") && !without.stdout.contains("fma"),
        "{without:?}"
    );
    let with = guest(&["--cpu", "x86-64-v2,+aes", "--cpus", "1"], script);
    if !with.stderr.contains("lacks") {
        assert_writes(&with, "aes sse2\n");
    }
}

#[test]
fn nonsense_gets_one_line() {
    for (cpu, told) in [
        ("z80", "'z80' is no processor"),
        ("x86-64-v3,avx", "'avx' does not begin with + or -"),
        ("host,-", "'' is no feature"),
        ("host,+sse4_2,+flux", "'flux' is no feature"),
        ("", "'' is no processor"),
    ] {
        assert_told(&uvm(["run", "--cpu", cpu, "/", "true"]), 125, &[told]);
    }
    // Nobody's processor has both.
    let both = uvm(["run", "--cpu", "host,+3dnow,+avx512_4vnniw", "/", "true"]);
    assert_told(&both, 125, &["run: --cpu: this machine's processor lacks "]);
    for cpus in ["0", "-1", "1025", "many"] {
        assert_told(
            &uvm(["run", &format!("--cpus={cpus}"), "/", "true"]),
            125,
            &["--cpus"],
        );
    }
}

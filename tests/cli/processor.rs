//! `--cpu` and `--cpus`: what programs of a distribution make of the processor that they are shown.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::process::OWN_PROCESSOR;
use super::support::text;
use super::{assert_told, assert_writes, guest, scratch, uvm};

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
        if told.stderr.contains("processor lacks") || told.stderr.contains(OWN_PROCESSOR) {
            continue;
        }
        let number: usize = level[1..].parse().expect("a number");
        let flags: String = (0..LEVELS.len())
            .map(|at| if at + 1 < number { "3\n" } else { "0\n" })
            .collect();
        assert_writes(&told, &format!("3\n3\n0-2\n{flags}3\n{searched}\n"));
    }
}

/// Go's package of a processor's features, by which its cryptography chooses, below the root of Go.
const GO_PACKAGE: &str = "src/vendor/golang.org/x/sys/cpu";

/// Prints the names of the features that Go finds and how many CPUs there are.
const GO_PROGRAM: &str = r#"package main
import ("facts/cpu"; "fmt"; "reflect"; "runtime")
func main() {
	found := reflect.ValueOf(cpu.X86)
	for i := 0; i < found.NumField(); i++ {
		name := found.Type().Field(i).Name
		if len(name) > 3 && name[:3] == "Has" && found.Field(i).Bool() { fmt.Println(name[3:]) }
	}
	fmt.Println(runtime.NumCPU())
}
"#;

/// That program, built for this test.
fn go_program(place: &Path) -> String {
    let package = place.join("cpu");
    fs::create_dir_all(&package).expect("create");
    let root = Command::new("go")
        .args(["env", "GOROOT"])
        .output()
        .expect("run `go`");
    let root = String::from_utf8(root.stdout).expect("a path in UTF-8");
    for entry in fs::read_dir(Path::new(root.trim_end()).join(GO_PACKAGE)).expect("the sources of Go") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), package.join(entry.file_name())).expect("copy");
    }
    fs::write(place.join("go.mod"), "module facts\n\ngo 1.19\n").expect("write");
    fs::write(place.join("main.go"), GO_PROGRAM).expect("write");
    let mut go = Command::new("go");
    go.args(["build", "-o", "program", "."]).current_dir(place);
    go.envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=mod"), ("GOPROXY", "off")]);
    go.env("GOCACHE", place.join("cache"));
    assert!(go.status().expect("run `go`").success());
    text(&place.join("program")).to_owned()
}

#[test]
fn go_finds_the_processor_of_the_model() {
    let program = go_program(&scratch("go"));
    let v2 = ["CX16", "POPCNT", "SSE2", "SSE3", "SSSE3", "SSE41", "SSE42"];
    let v3 = ["AVX", "AVX2", "BMI1", "BMI2", "FMA", "OSXSAVE"];
    for platform in ["seccomp", "ptrace"] {
        for (cpu, features) in [
            ("x86-64-v1", vec!["SSE2"]),
            ("x86-64-v2", v2.to_vec()),
            ("x86-64-v3", [&v2[..], &v3].concat()),
            ("x86-64-v2,+aes,-popcnt", [&v2[..1], &v2[2..], &["AES"]].concat()),
        ] {
            let told = uvm([
                "run",
                "--platform",
                platform,
                "--cpu",
                cpu,
                "--cpus",
                "3",
                "/",
                "--",
                &program,
            ]);
            if told.stderr.contains("processor lacks") || told.stderr.contains(OWN_PROCESSOR) {
                continue;
            }
            let mut found: Vec<&str> = told.stdout.lines().collect();
            assert_eq!(
                (told.status, found.pop()),
                (0, Some("3")),
                "{platform} {cpu}: {told:?}"
            );
            let mut features = features;
            found.sort_unstable();
            features.sort_unstable();
            assert_eq!(found, features, "{platform} {cpu}");
        }
    }
}

#[test]
fn features_are_added_and_taken_away() {
    let script = "grep -ow -e sse2 -e avx2 -e avx -e aes -e fma -e bmi2 /proc/cpuinfo | sort | xargs";
    let without = guest(&["--cpu", "host,-avx,-aes", "--cpus", "1"], script);
    if without.stderr.contains(OWN_PROCESSOR) {
        let host = guest(&["--cpus", "1"], script);
        assert_eq!(without.stdout, host.stdout, "{without:?}");
        return;
    }
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

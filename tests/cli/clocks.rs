//! Clocks that are not the host's: `--clock`, `--time-start`.

use super::*;

/// The numbers that a guest prints, one a line.
fn numbers(options: &[&str], script: &str) -> Vec<i64> {
    let outcome = guest(options, script);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let number = |line: &str| line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
    outcome.stdout.lines().map(number).collect()
}

#[test]
fn nonsense_is_told_in_one_line() {
    for clock in [
        "soon",
        "",
        "travel=fast",
        "rate=0",
        "rate=-1",
        "rate=nan",
        "rate=1e9",
        "offset=1y",
        "offset=",
    ] {
        let option = format!("--clock={clock}");
        assert_told(&guest(&[&option], "true"), 125, &["--clock"]);
    }
    for start in ["2026-02-30", "tomorrow", "@-1", "2200-01-01", ""] {
        let option = format!("--time-start={start}");
        assert_told(&guest(&[&option], "true"), 125, &["--time-start"]);
    }
    for offset in ["offset=-100000d", "offset=+100000d"] {
        assert_told(&guest(&["--clock", offset], "true"), 125, &["1970", "2199"]);
    }
    let both = ["--clock", "offset=1d", "--time-start", "2001-01-01"];
    assert_told(&guest(&both, "true"), 125, &["offset", "--time-start"]);
}

#[test]
fn a_guest_begins_when_it_is_told() {
    for clock in ["host", "rate=10", "travel", "travel=inf-cpu"] {
        let options = ["--clock", clock, "--time-start", "2001-02-03T04:05:06"];
        assert_writes(
            &guest(&options, "date -u +%FT%H:%M; cat /proc/version | wc -l"),
            "2001-02-03T04:05\n1\n",
        );
    }
    let ahead = numbers(&["--clock", "offset=+1d"], "date +%s");
    let behind = numbers(&["--clock", "offset=-1d"], "date +%s");
    assert!(
        (ahead[0] - behind[0] - 2 * 86_400).abs() < 60,
        "{ahead:?} {behind:?}"
    );
}

#[test]
fn a_day_is_slept_at_once() {
    for clock in ["travel", "travel=inf-cpu"] {
        let seen = numbers(
            &["--clock", clock],
            "date +%s; sleep 86400; date +%s; touch f; stat -c %Y f",
        );
        assert!(
            (86_400..86_460).contains(&(seen[1] - seen[0])),
            "{clock}: {seen:?}"
        );
        assert!((0..60).contains(&(seen[2] - seen[1])), "{clock}: {seen:?}");
    }
}

/// Pipes that are used often are read without the kernel, which would not know then who waits.
#[test]
fn who_reads_a_pipe_in_use_waits_as_others_do() {
    let script = "
        date +%s
        { i=0; while [ $i -lt 400 ]; do echo x; i=$((i+1)); done; sleep 86400; echo end; } | while read line; do :; done
        date +%s";
    let seen = numbers(&["--clock", "travel"], script);
    assert!((86_400..86_460).contains(&(seen[1] - seen[0])), "{seen:?}");
}

#[test]
fn two_days_of_jobs_run_in_order() {
    let script = "
        job() { i=0; while [ $i -lt $3 ]; do sleep $2; echo $(date +%s) $1; i=$((i+1)); done; }
        date +%s
        job hourly 3600 48 & job odd 5400.5 32 & job rare 40000 4 & wait";
    let outcome = guest(&["--clock", "travel=inf-cpu", "--time-start", "@0"], script);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let mut lines = outcome.stdout.lines();
    assert_eq!(lines.next(), Some("0"));
    let mut expected: Vec<(f64, &str)> = Vec::new();
    for (name, every, count) in [("hourly", 3600.0, 48), ("odd", 5400.5, 32), ("rare", 40_000.0, 4)] {
        expected.extend((1..=count).map(|n| (every * f64::from(n), name)));
    }
    expected.sort_by(|a, b| a.0.total_cmp(&b.0));
    let expected: Vec<String> = expected
        .iter()
        .map(|(at, name)| format!("{} {name}", at.floor()))
        .collect();
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

#[test]
fn the_time_does_not_jump_while_anything_runs() {
    // A jump to the limit would kill the loop.
    let script = "timeout 1000 sh -c 'i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo done $i' & wait; sleep 5000";
    for clock in ["travel", "travel=inf-cpu"] {
        assert_writes(&guest(&["--clock", clock], script), "done 50000\n");
    }
}

#[test]
fn loops_that_wait_for_the_time_end() {
    let script = "end=$(($(date +%s%N) + 1000000)); while [ $(date +%s%N) -lt $end ]; do :; done; echo over";
    for clock in ["travel", "travel=inf-cpu", "rate=0.1"] {
        assert_writes(&guest(&["--clock", clock], script), "over\n");
    }
}

#[test]
fn what_has_no_end_waits_for_input_and_not_for_ever() {
    // Times beyond reason are no timers; what is there already comes before any jump.
    let script = "sleep infinity & read line; echo got $line; kill $!";
    let outcome = run(
        Command::new(UVM)
            .args(["run", "--clock", "travel"])
            .arg(rootfs())
            .args(["--", "sh", "-c", script]),
        b"something\n",
        LIMIT,
    );
    assert_writes(&outcome, "got something\n");
}

#[test]
fn the_limit_of_a_run_is_the_hosts_time() {
    assert_writes(
        &guest(
            &["--clock", "travel", "--timeout", "50"],
            "sleep 100000; echo here",
        ),
        "here\n",
    );
    let outcome = guest(
        &["--clock", "travel=inf-cpu", "--timeout", "0.3"],
        "while :; do :; done",
    );
    assert_eq!(outcome.status, 124, "{outcome:?}");
}

//! Perl, and static programs of Go and Rust.

use crate::support::scenario::Scenario;

#[test]
fn perl_forks_pipes_and_locks() {
    Scenario::program(
        "perl",
        "perl",
        r#"
use strict; use warnings;
use Fcntl qw(:flock :seek); use IO::Select; use IO::Socket::UNIX; use POSIX qw(:sys_wait_h); use Socket; use File::Temp; use Time::HiRes qw(alarm sleep);
$| = 1;
my $pid = fork // die; if (!$pid) { exit 3 } waitpid $pid, 0; print "child ", $? >> 8, "\n";
$pid = fork // die; if (!$pid) { kill 'KILL', $$ } waitpid $pid, 0; print "signal ", $? & 127, "\n";
open my $from, '-|', 'echo from a pipe; exit 2' or die; print <$from>; close $from; print "closed ", $? >> 8, "\n";
open my $to, '|-', 'tr a-z A-Z' or die; print $to "to a pipe\n"; close $to;
my @words = map { chomp; $_ } `printf 'a\nb\n'`; print "@words\n"; print system('exit 5') >> 8, "\n";
my $file = File::Temp->new; flock $file, LOCK_EX or die; 
if (!(my $kid = fork)) { open my $same, '<', "$file" or die; print flock($same, LOCK_EX | LOCK_NB) ? "locked\n" : "busy: $!\n"; POSIX::_exit(0) } else { waitpid $kid, 0 }
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die; syswrite $a, 'across'; sysread $b, my $got, 100; print "$got\n";
my $path = "/tmp/perl.sock"; my $server = IO::Socket::UNIX->new(Local => $path, Listen => 5) or die "$!";
if (!(my $kid = fork)) { my $client = IO::Socket::UNIX->new(Peer => $path) or die; print $client "hello\n"; print scalar <$client>; $client->flush; POSIX::_exit(0) } else { my $peer = $server->accept; my $line = <$peer>; print $peer "echo $line"; close $peer; waitpid $kid, 0 }
my $select = IO::Select->new($b); print "ready ", scalar($select->can_read(0)), "\n"; syswrite $a, 'x'; print "ready ", scalar($select->can_read(5)), "\n";
my $caught = 0; $SIG{ALRM} = sub { $caught++ }; alarm 0.05; sleep 10 until $caught; print "alarm $caught\n";
$SIG{CHLD} = sub { 1 while waitpid(-1, WNOHANG) > 0; $caught++ }; $pid = fork // die; exit 0 if !$pid; select undef, undef, undef, 10 while $caught < 2; print "reaped\n"; $SIG{CHLD} = 'DEFAULT';
{ local $SIG{__DIE__}; eval { die "thrown\n" }; print $@; } local %ENV = (%ENV, FOO => 'bar'); print `echo \$FOO`;
opendir my $dir, '/etc/apt' or die; print join(' ', sort grep { !/^\./ } readdir $dir), "\n"; print -s '/etc/passwd' > 0 ? "size\n" : "none\n"; my @s = stat '/etc/passwd'; printf "%o %d\n", $s[2], $s[4];
my $text = join ' ', map { $_ * 3 } 1 .. 2000; my $count = () = $text =~ /\b(\d)\d*\1\b/g; print "matches $count\n"; (my $copy = $text) =~ s/(\d+)/<$1>/g; print length $copy, "\n"; my %seen; $seen{$_ % 97}++ for 1 .. 50000; print scalar keys %seen, "\n";
truncate $file, 1000; seek $file, 0, SEEK_END; print tell($file), "\n"; rename "$file", '/tmp/renamed' and print "renamed\n"; print join(',', (getpwnam 'alice')[2, 3, 7]), "\n"; exit 4;
"#,
    )
    .status(4)
    .compare();
    Scenario::sh("perl-modules", "perl -MData::Dumper -MList::Util=sum -MStorable -MEncode -MDigest::SHA=sha256_hex -e 'print Dumper([sum 1..10]), sha256_hex(\"x\"), \"\\n\"; print Storable::thaw(Storable::freeze([1,2]))->[1], \"\\n\"'; perl -ne 'print if /root/' /etc/passwd; perl -c -e 'die(' 2>/dev/null; echo $?; perl -e 'die \"bye\\n\"'; echo $?; perl -i.bak -pe s/a/b/ /tmp/none; echo abc >/tmp/p; perl -i.bak -pe s/a/b/ /tmp/p; cat /tmp/p /tmp/p.bak; perl -e 'kill 9, $$'; echo $?")
        .any_stderr()
        .compare();
}

#[test]
fn perl_threads_of_processes() {
    Scenario::program(
        "perl-workers",
        "perl",
        r#"
my @pipes; for my $worker (1 .. 8) { pipe my $r, my $w or die; my $pid = fork // die; if (!$pid) { close $r; my $sum = 0; $sum += $_ * $worker for 1 .. 20000; syswrite $w, "$worker $sum\n"; exit 0 } close $w; push @pipes, $r }
for my $r (@pipes) { print scalar <$r> } my $reaped = 0; $reaped++ while wait() > 0; print "$reaped\n";
"#,
    )
    .compare();
}

#[test]
fn a_go_program_with_goroutines() {
    Scenario::sh("go", "/srv/bin/go-workers; echo $?; GOMAXPROCS=1 /srv/bin/go-workers; GOGC=1 /srv/bin/go-workers; file -b /srv/bin/go-workers | grep -o 'statically linked'").compare();
}

#[test]
fn a_rust_program_with_threads() {
    Scenario::sh(
        "rust",
        "/srv/bin/rust-workers; echo $?; cd /tmp && /srv/bin/rust-workers | tail -n 3; ls /tmp",
    )
    .any_stderr()
    .compare();
}

//! sqlite3: locks, shared memory, files synced and truncated.

use crate::support::scenario::Scenario;

#[test]
fn two_processes_write_in_wal_mode() {
    Scenario::sh(
        "sqlite-wal",
        r#"
        cd /tmp && sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t (writer, n);'
        write() {
            { echo '.timeout 60000'; for n in $(seq 150); do echo "INSERT INTO t VALUES ('$1', $n);"; done; } | sqlite3 db
        }
        write a & write b & wait
        ls db*; sqlite3 db 'SELECT writer, count(*), sum(n) FROM t GROUP BY writer; PRAGMA integrity_check; PRAGMA wal_checkpoint(TRUNCATE);'
        ls db*; sqlite3 db 'PRAGMA journal_mode=DELETE; SELECT count(*) FROM t; VACUUM;'; ls db*
        "#,
    )
    .compare();
}

#[test]
fn a_reader_sees_a_snapshot_while_another_writes() {
    Scenario::program(
        "sqlite-snapshot",
        "python3",
        r#"
import os, sqlite3
path = '/tmp/snapshot.db'
db = sqlite3.connect(path, isolation_level=None)
db.execute('PRAGMA journal_mode=WAL')
db.execute('CREATE TABLE t (n)')
db.execute('INSERT INTO t VALUES (1)')
reader = sqlite3.connect(path, isolation_level=None)
reader.execute('BEGIN')
print(reader.execute('SELECT count(*) FROM t').fetchone())
child = os.fork()
if child == 0:
    other = sqlite3.connect(path, isolation_level=None, timeout=30)
    other.executemany('INSERT INTO t VALUES (?)', [(n,) for n in range(100)])
    other.close()
    os._exit(0)
print(os.waitpid(child, 0)[1])
print(reader.execute('SELECT count(*) FROM t').fetchone())
reader.execute('COMMIT')
print(reader.execute('SELECT count(*) FROM t').fetchone())
db.execute('BEGIN IMMEDIATE')
late = sqlite3.connect(path, isolation_level=None, timeout=0)
try:
    late.execute('BEGIN IMMEDIATE')
except sqlite3.OperationalError as error:
    print(error)
db.execute('ROLLBACK')
late.execute('BEGIN IMMEDIATE')
late.execute('COMMIT')
print(sorted(os.listdir('/tmp')))
"#,
    )
    .compare();
}

#[test]
fn rollback_journals_survive_a_killed_writer() {
    Scenario::sh(
        "sqlite-journal",
        r#"
        cd /tmp && sqlite3 db 'CREATE TABLE t (n); INSERT INTO t VALUES (1);'
        mkfifo go; (printf 'PRAGMA cache_size=1; BEGIN; INSERT INTO t SELECT value FROM generate_series(1, 20000);\n.print ready\n'; cat go) | sqlite3 db >out &
        while ! grep -qs ready out; do :; done
        ls db*; pkill -9 sqlite3; echo >go; wait
        sqlite3 db 'SELECT count(*) FROM t; PRAGMA integrity_check;'; ls db*
        sqlite3 db '.mode csv' '.import /etc/passwd users' 'SELECT 1' 2>/dev/null | tail -n 1; sqlite3 db .dump | md5sum
        sqlite3 :memory: 'WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000) SELECT sum(n) FROM c'
        sqlite3 /nonexistent/db 'SELECT 1 FROM t'; echo "status $?"
        "#,
    )
    .any_stderr()
    .compare();
}

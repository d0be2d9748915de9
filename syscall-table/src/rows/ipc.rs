//! Futexes, System V IPC and POSIX message queues.

/// Expands `callback! { ipc [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! ipc_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { ipc [$($($extra)*)?]
             29 shmget (key: Enum(IPC_KEY), size: Size, shmflg: Flags(SHM_GET)) -> Int, full, kernel;
             30 shmat (shmid: Int, shmaddr: Addr, shmflg: Flags(SHM_AT)) -> Addr, full, kernel;
             31 shmctl (shmid: Int, cmd: Enum(SHM_CTL), buf: By(cmd)) -> Int, full, kernel;
             64 semget (key: Enum(IPC_KEY), nsems: Int, semflg: Flags(IPC_GET)) -> Int, full, kernel;
             65 semop (semid: Int, sops: InArray(Sembuf, nsops), nsops: Size) -> Int, full, blocks, kernel;
             66 semctl (semid: Int, semnum: Int, cmd: Enum(SEM_CTL), arg: By(cmd)) -> Int, full, kernel;
             67 shmdt (shmaddr: Addr) -> Int, full, kernel;
             68 msgget (key: Enum(IPC_KEY), msgflg: Flags(IPC_GET)) -> Int, full, kernel;
             69 msgsnd (msqid: Int, msgp: InMessage(msgsz), msgsz: Size, msgflg: Flags(IPC_MSG)) -> Int, full, blocks, kernel;
             70 msgrcv (msqid: Int, msgp: OutMessage(msgsz), msgsz: Size, msgtyp: Off, msgflg: Flags(IPC_MSG)) -> Size, partial "no MSG_COPY", blocks, kernel;
             71 msgctl (msqid: Int, cmd: Enum(MSG_CTL), buf: By(cmd)) -> Int, full, kernel;
            202 futex (uaddr: Addr, futex_op: Flags(FUTEX), val: Uint, timeout: By(futex_op), uaddr2: By(futex_op), val3: By(futex_op)) -> Int, partial "no priority inheritance; FUTEX_WAKE_OP is not atomic against running threads", blocks, native, checked;
            220 semtimedop (semid: Int, sops: InArray(Sembuf, nsops), nsops: Size, timeout: In(Timespec)) -> Int, full, blocks, kernel;
            240 mq_open (name: Str, oflag: Flags(OPEN), mode: Mode, attr: In(MqAttr)) -> Fd, partial "queues are in no file system", kernel;
            241 mq_unlink (name: Str) -> Int, full, kernel;
            242 mq_timedsend (mqdes: Fd, msg_ptr: InBuf(msg_len), msg_len: Size, msg_prio: Uint, abs_timeout: In(Timespec)) -> Int, full, blocks, kernel;
            243 mq_timedreceive (mqdes: Fd, msg_ptr: OutBuf(msg_len), msg_len: Size, msg_prio: Out(Uint), abs_timeout: In(Timespec)) -> Size, full, blocks, kernel;
            244 mq_notify (mqdes: Fd, sevp: In(Sigevent)) -> Int, partial "no SIGEV_THREAD", kernel;
            245 mq_getsetattr (mqdes: Fd, newattr: In(MqAttr), oldattr: Out(MqAttr)) -> Int, full, kernel;
            449 futex_waitv (waiters: InArray(FutexWaitv, nr_futexes), nr_futexes: Uint, flags: Hex, timeout: In(Timespec), clockid: Clock) -> Int, full, blocks, kernel;
            454 futex_wake (uaddr: Addr, mask: Hex, nr: Int, flags: Flags(FUTEX2)) -> Int, full, kernel;
            455 futex_wait (uaddr: Addr, val: Size, mask: Hex, flags: Flags(FUTEX2), timeout: In(Timespec), clockid: Clock) -> Int, full, blocks, kernel;
            456 futex_requeue (waiters: In(FutexWaitvPair), flags: Hex, nr_wake: Int, nr_requeue: Int) -> Int, full, kernel;
        }
    };
}

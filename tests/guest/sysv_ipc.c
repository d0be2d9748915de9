/* System V IPC: sysvipc(7), msgop(2), semop(2), shmop(2). */
#include "check.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

struct message {
	long type;
	char text[64];
};

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

static int send_text(int q, long type, const char *text, int flags)
{
	struct message m = { .type = type };
	strcpy(m.text, text);
	return msgsnd(q, &m, strlen(text) + 1, flags);
}

CHECK(messages_by_type)
{
	struct message m;
	int q = OK(msgget(IPC_PRIVATE, 0600));
	OK(send_text(q, 1, "one", 0));
	OK(send_text(q, 3, "three", 0));
	OK(send_text(q, 2, "two", 0));
	EQ(msgrcv(q, &m, sizeof m.text, 2, 0), 4);
	STREQ(m.text, "two");
	/* A negative type: the lowest up to it. */
	EQ(msgrcv(q, &m, sizeof m.text, -3, 0), 4);
	STREQ(m.text, "one");
	EQ(msgrcv(q, &m, sizeof m.text, 0, 0), 6);
	EQ(m.type, 3);
	ERR(msgrcv(q, &m, sizeof m.text, 0, IPC_NOWAIT), ENOMSG);
	OK(msgctl(q, IPC_RMID, NULL));
	ERR(send_text(q, 1, "x", 0), EINVAL);
}

CHECK(message_limits)
{
	struct message m;
	int q = OK(msgget(IPC_PRIVATE, 0600));
	ERR(send_text(q, 0, "x", 0), EINVAL);
	ERR(send_text(q, -1, "x", 0), EINVAL);
	OK(send_text(q, 1, "longer text", 0));
	ERR(msgrcv(q, &m, 4, 0, 0), E2BIG);
	EQ(msgrcv(q, &m, 4, 0, MSG_NOERROR), 4);
	struct msqid_ds ds;
	OK(msgctl(q, IPC_STAT, &ds));
	EQ(ds.msg_qnum, 0);
	EQ(ds.msg_lrpid, getpid());
	OK(msgctl(q, IPC_RMID, NULL));
}

CHECK(message_receive_blocks)
{
	int q = OK(msgget(IPC_PRIVATE, 0600));
	CHILD(pid) {
		struct message m;
		EQ(msgrcv(q, &m, sizeof m.text, 7, 0), 3);
	}
	await_state(pid, 'S');
	OK(send_text(q, 6, "no", 0));
	OK(send_text(q, 7, "hi", 0));
	REAP(pid);
	OK(msgctl(q, IPC_RMID, NULL));
}

CHECK(queue_removal_wakes_waiters)
{
	int q = OK(msgget(IPC_PRIVATE, 0600));
	CHILD(pid) {
		struct message m;
		ERR(msgrcv(q, &m, sizeof m.text, 0, 0), EIDRM);
	}
	await_state(pid, 'S');
	OK(msgctl(q, IPC_RMID, NULL));
	REAP(pid);
}

CHECK(message_queue_fills)
{
	static struct {
		long type;
		char text[8000];
	} big = { .type = 1 };
	int q = OK(msgget(IPC_PRIVATE, 0600)), n = 0;
	while (msgsnd(q, &big, sizeof big.text, IPC_NOWAIT) == 0)
		EXPECT(++n < 10000);
	EQ(errno, EAGAIN);
	EXPECT(n >= 1);
	OK(msgctl(q, IPC_RMID, NULL));
}

CHECK(semaphore_arithmetic)
{
	int s = OK(semget(IPC_PRIVATE, 3, 0600));
	struct sembuf up = { 1, 5, 0 }, down = { 1, -3, IPC_NOWAIT };
	EQ(semctl(s, 1, GETVAL), 0);
	OK(semop(s, &up, 1));
	OK(semop(s, &down, 1));
	EQ(semctl(s, 1, GETVAL), 2);
	ERR(semop(s, &down, 1), EAGAIN);
	EQ(semctl(s, 1, GETPID), getpid());
	OK(semctl(s, 1, SETVAL, (union semun){ .val = 9 }));
	EQ(semctl(s, 1, GETVAL), 9);
	ERR(semctl(s, 3, GETVAL), EINVAL);
	ERR(semctl(s, 1, SETVAL, (union semun){ .val = -1 }), ERANGE);
	unsigned short all[3] = { 1, 2, 3 };
	OK(semctl(s, 0, SETALL, (union semun){ .array = all }));
	EQ(semctl(s, 2, GETVAL), 3);
	OK(semctl(s, 0, IPC_RMID));
	ERR(semctl(s, 0, GETVAL), EINVAL);
}

CHECK(semaphore_operations_are_atomic)
{
	int s = OK(semget(IPC_PRIVATE, 2, 0600));
	struct sembuf both[] = { { 0, 1, 0 }, { 1, -1, IPC_NOWAIT } };
	ERR(semop(s, both, 2), EAGAIN);
	EQ(semctl(s, 0, GETVAL), 0);
	struct sembuf far = { 5, 1, 0 };
	ERR(semop(s, &far, 1), EFBIG);
	ERR(semop(s, both, 0), EINVAL);
	OK(semctl(s, 0, IPC_RMID));
}

CHECK(semaphore_blocks_and_wakes)
{
	int s = OK(semget(IPC_PRIVATE, 1, 0600));
	CHILD(pid) {
		struct sembuf down = { 0, -2, 0 };
		OK(semop(s, &down, 1));
	}
	await_state(pid, 'S');
	EQ(semctl(s, 0, GETNCNT), 1);
	struct sembuf up = { 0, 1, 0 };
	OK(semop(s, &up, 1));
	EQ(semctl(s, 0, GETNCNT), 1);
	OK(semop(s, &up, 1));
	REAP(pid);
	EQ(semctl(s, 0, GETVAL), 0);
	OK(semctl(s, 0, IPC_RMID));
}

CHECK(semaphore_wait_for_zero)
{
	int s = OK(semget(IPC_PRIVATE, 1, 0600));
	OK(semctl(s, 0, SETVAL, (union semun){ .val = 1 }));
	CHILD(pid) {
		struct sembuf zero = { 0, 0, 0 };
		OK(semop(s, &zero, 1));
	}
	await_state(pid, 'S');
	EQ(semctl(s, 0, GETZCNT), 1);
	struct sembuf down = { 0, -1, 0 };
	OK(semop(s, &down, 1));
	REAP(pid);
	OK(semctl(s, 0, IPC_RMID));
}

CHECK(semaphore_undo_at_exit)
{
	int s = OK(semget(IPC_PRIVATE, 1, 0600));
	CHILD(pid) {
		struct sembuf up = { 0, 3, SEM_UNDO };
		OK(semop(s, &up, 1));
		EQ(semctl(s, 0, GETVAL), 3);
	}
	REAP(pid);
	EQ(semctl(s, 0, GETVAL), 0);
	OK(semctl(s, 0, IPC_RMID));
}

CHECK(semtimedop_times_out)
{
	int s = OK(semget(IPC_PRIVATE, 1, 0600));
	struct sembuf down = { 0, -1, 0 };
	struct timespec tick = { 0, 1000000 };
	ERR(semtimedop(s, &down, 1, &tick), EAGAIN);
	OK(semctl(s, 0, IPC_RMID));
}

CHECK(shared_memory_between_processes)
{
	int id = OK(shmget(IPC_PRIVATE, 10000, 0600));
	char *p = OK((char *)shmat(id, NULL, 0));
	EQ(p[9999], 0);
	CHILD(pid) {
		STREQ(p, "");
		strcpy(p, "from the child");
		char *q = OK((char *)shmat(id, NULL, SHM_RDONLY));
		STREQ(q, "from the child");
	}
	REAP(pid);
	STREQ(p, "from the child");
	struct shmid_ds ds;
	OK(shmctl(id, IPC_STAT, &ds));
	EQ(ds.shm_segsz, 10000);
	EQ(ds.shm_nattch, 1);
	EQ(ds.shm_cpid, getpid());
	OK(shmctl(id, IPC_RMID, NULL));
	/* It lives until the last detach. */
	STREQ(p, "from the child");
	OK(shmdt(p));
	ERR(shmdt(p), EINVAL);
	ERR((long)shmat(id, NULL, 0), EINVAL);
}

CHECK(keys_create_and_exclude)
{
	key_t key = 0x75766d00 ^ getpid();
	ERR(shmget(key, 4096, 0600), ENOENT);
	int id = OK(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600));
	ERR(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
	EQ(shmget(key, 4096, 0600), id);
	ERR(shmget(key, 8192, 0600), EINVAL);
	OK(shmctl(id, IPC_RMID, NULL));
	ERR(shmget(key, 4096, 0600), ENOENT);
	int q = OK(msgget(key, IPC_CREAT | 0600));
	EQ(msgget(key, 0600), q);
	OK(msgctl(q, IPC_RMID, NULL));
	int s = OK(semget(key, 2, IPC_CREAT | 0600));
	EQ(semget(key, 1, 0600), s);
	ERR(semget(key, 3, 0600), EINVAL);
	OK(semctl(s, 0, IPC_RMID));
	ERR(semget(IPC_PRIVATE, -1, 0600), EINVAL);
}

CHECK(ipc_permissions)
{
	need_root();
	int id = OK(shmget(IPC_PRIVATE, 4096, 0600)), s = OK(semget(IPC_PRIVATE, 1, 0600));
	CHILD(pid) {
		OK(setresuid(1001, 1001, 1001));
		ERR((long)shmat(id, NULL, 0), EACCES);
		ERR(semctl(s, 0, GETVAL), EACCES);
		ERR(shmctl(id, IPC_RMID, NULL), EPERM);
	}
	REAP(pid);
	OK(shmctl(id, IPC_RMID, NULL));
	OK(semctl(s, 0, IPC_RMID));
}

CHECK(shmat_at_an_address)
{
	int id = OK(shmget(IPC_PRIVATE, 4096, 0600));
	char *hole = OK(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ERR((long)shmat(id, hole, 0), EINVAL);
	OK(munmap(hole, 4096));
	EQ(shmat(id, hole, 0), hole);
	OK(shmdt(hole));
	ERR((long)shmat(id, hole + 100, 0), EINVAL);
	EQ(shmat(id, hole + 100, SHM_RND), hole);
	OK(shmctl(id, IPC_RMID, NULL));
}

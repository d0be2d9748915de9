/*
 * The vDSO of a guest: its clocks and its CPU's number without a system call.
 *
 * The page in front of the image (kernel/time/vdso.rs) has the address of the host's own function, which reads the host's
 * clocks, and what is to be added for the guest's. Without that function, or where it cannot tell, and for all other
 * clocks, a call is a system call like any other.
 */
#define GETTIME 0
/* Of CLOCK_REALTIME, then of CLOCK_MONOTONIC: seconds above, nanoseconds in the lowest 30 bits. One word is read whole. */
#define ADD 8
/* How many CPUs the guest is told of. */
#define CPUS 24

#define SYS_clock_gettime 228
#define SYS_clock_getres 229
#define SYS_getcpu 309

/* CLOCK_REALTIME, _COARSE, _ALARM, CLOCK_TAI; CLOCK_MONOTONIC, _RAW, _COARSE, CLOCK_BOOTTIME, _ALARM. */
#define REALTIMES 0x921
#define MONOTONICS 0x2d2
#define COARSE 0x60
#define LAST_CLOCK 11
#define TICK 4000000

#define SECOND 1000000000
/* The segment whose limit the host sets to the CPU's number. */
#define CPU_SEGMENT 0x7b

	.intel_syntax noprefix
	.hidden	vvar
	.text

	.macro FUNCTION name alias
	.globl \name
	.type \name, @function
	.weak \alias
	.type \alias, @function
	.set \alias, \name
	.p2align 4
\name:
	.cfi_startproc
	.endm
	.macro END name alias
	.cfi_endproc
	.size \name, . - \name
	.size \alias, . - \name
	.endm
	.macro KEEP register
	push	\register
	.cfi_adjust_cfa_offset 8
	.endm
	.macro BACK register
	pop	\register
	.cfi_adjust_cfa_offset -8
	.endm
	.macro ROOM bytes
	sub	rsp, \bytes
	.cfi_adjust_cfa_offset \bytes
	.endm
	.macro DROP bytes
	add	rsp, \bytes
	.cfi_adjust_cfa_offset -(\bytes)
	.endm

FUNCTION __vdso_clock_gettime clock_gettime
	cmp	edi, LAST_CLOCK
	ja	9f
	xor	r8d, r8d
	mov	eax, REALTIMES
	bt	eax, edi
	jc	1f
	inc	r8d
	mov	eax, MONOTONICS
	bt	eax, edi
	jnc	9f
1:	lea	rdx, [rip + vvar]
	mov	rax, [rdx + GETTIME]
	test	rax, rax
	jz	9f
	KEEP	rbx
	.cfi_rel_offset rbx, 0
	KEEP	rdi
	KEEP	rsi
	ROOM	16
	mov	rbx, [rdx + r8 * 8 + ADD]
	mov	edi, r8d
	mov	rsi, rsp
	call	rax
	test	eax, eax
	jnz	8f
	mov	edx, ebx
	and	edx, 0x3fffffff
	sar	rbx, 30
	add	rbx, [rsp]
	add	rdx, [rsp + 8]
	cmp	rdx, SECOND
	jb	2f
	sub	rdx, SECOND
	inc	rbx
2:	mov	rsi, [rsp + 16]
	mov	[rsi], rbx
	mov	[rsi + 8], rdx
	.cfi_remember_state
	DROP	32
	BACK	rbx
	.cfi_restore rbx
	ret
	.cfi_restore_state
8:	DROP	16
	BACK	rsi
	BACK	rdi
	BACK	rbx
	.cfi_restore rbx
9:	mov	eax, SYS_clock_gettime
	syscall
	ret
END __vdso_clock_gettime clock_gettime

FUNCTION __vdso_gettimeofday gettimeofday
	KEEP	rdi
	KEEP	rsi
	ROOM	24
	test	rdi, rdi
	jz	1f
	xor	edi, edi
	mov	rsi, rsp
	call	__vdso_clock_gettime
	mov	rdi, [rsp + 32]
	mov	rcx, [rsp]
	/* Microseconds: a thousandth of less than 2^30. */
	mov	rdx, [rsp + 8]
	imul	rdx, rdx, 274877907
	shr	rdx, 38
	mov	[rdi], rcx
	mov	[rdi + 8], rdx
1:	xor	eax, eax
	mov	rsi, [rsp + 24]
	test	rsi, rsi
	jz	2f
	mov	[rsi], rax
2:	DROP	40
	ret
END __vdso_gettimeofday gettimeofday

FUNCTION __vdso_time time
	KEEP	rdi
	ROOM	16
	xor	edi, edi
	mov	rsi, rsp
	call	__vdso_clock_gettime
	mov	rax, [rsp]
	DROP	16
	BACK	rdi
	test	rdi, rdi
	jz	1f
	mov	[rdi], rax
1:	ret
END __vdso_time time

FUNCTION __vdso_clock_getres clock_getres
	cmp	edi, LAST_CLOCK
	ja	9f
	mov	eax, REALTIMES | MONOTONICS
	bt	eax, edi
	jnc	9f
	xor	eax, eax
	test	rsi, rsi
	jz	2f
	mov	ecx, COARSE
	mov	edx, 1
	bt	ecx, edi
	jnc	1f
	mov	edx, TICK
1:	mov	[rsi], rax
	mov	[rsi + 8], rdx
2:	ret
9:	mov	eax, SYS_clock_getres
	syscall
	ret
END __vdso_clock_getres clock_getres

FUNCTION __vdso_getcpu getcpu
	mov	eax, CPU_SEGMENT
	lsl	eax, eax
	jnz	9f
	and	eax, 0xfff
	mov	ecx, [rip + vvar + CPUS]
	cmp	eax, ecx
	jb	0f
	test	ecx, ecx
	jz	9f
	xor	edx, edx
	div	ecx
	mov	eax, edx
0:	test	rdi, rdi
	jz	1f
	mov	[rdi], eax
1:	xor	eax, eax
	test	rsi, rsi
	jz	2f
	/* The guest has one node. */
	mov	[rsi], eax
2:	ret
9:	mov	eax, SYS_getcpu
	syscall
	ret
END __vdso_getcpu getcpu

	.section .note.GNU-stack, "", @progbits

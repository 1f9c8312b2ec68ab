/* Generated from format/src/events/ by `EBREC_BLESS=1 cargo test -p ebrec-format`; do not edit. */
/* clang-format off */
#ifndef EBREC_EVENTS_H
#define EBREC_EVENTS_H

/* Values that mean "the kernel can't tell". */
#define EBREC_NULL32 ((__u32)-1)
#define EBREC_NULL64 ((__u64)-1)

/* A task; pid is EBREC_NULL32 where it isn't known. */
struct ebrec_task {
	__u64 start; /* group_leader->start_boottime, ns */
	__u32 pid; /* the kernel's tgid */
	__u32 tid; /* the kernel's pid */
	char comm[16];
};

/* What every record begins with. */
struct ebrec_head {
	__u64 ts; /* CLOCK_BOOTTIME, ns */
	__u32 size; /* bytes of the whole record, tail included */
	__u16 cpu;
	__u16 table; /* enum ebrec_table */
	struct ebrec_task task;
};

/* The head of a record about a TCP connection; the task is its owner. */
struct ebrec_conn_head {
	struct ebrec_head head;
	__u64 conn_id;
};

/* Both ends of a connection. */
struct ebrec_endpoints {
	__u8 laddr[16]; /* network byte order, IPv4 as ::ffff:a.b.c.d */
	__u8 raddr[16];
	__u32 netns;
	__u16 lport; /* host byte order */
	__u16 rport; /* 0: not known yet */
};

/* What a file's number stands for. Its names follow. */
struct ebrec_file {
	__u64 id;
	__u64 base; /* 0: names of the file and the directories above it, each with its NUL; else a path from the directory of this number */
	__u64 inode;
	__u32 dev; /* as the kernel packs it */
	__u32 has_names; /* 0: it has more names than could be told */
	char fs[16]; /* type of the file system */
};

enum ebrec_table {
	EBREC_PROCESS_FORK = 0,
	EBREC_PROCESS_EXEC = 1,
	EBREC_PROCESS_EXIT = 2,
	EBREC_PROCESS = 3,
	EBREC_CGROUP = 4,
	EBREC_SCHED_SWITCH = 5,
	EBREC_SCHED_WAKEUP = 6,
	EBREC_TCP_CONNECTION = 7,
	EBREC_TCP_CONNECT = 8,
	EBREC_TCP_ACCEPT = 9,
	EBREC_TCP_CLOSE = 10,
	EBREC_TCP_STATE = 11,
	EBREC_TCP_SEND = 12,
	EBREC_TCP_RECV = 13,
	EBREC_TCP_RETRANSMIT = 14,
	EBREC_TCP_RESET = 15,
	EBREC_TCP_RTT = 16,
	EBREC_TCP_SOCKET = 17,
	EBREC_SIGNAL = 18,
	EBREC_OOM_KILL = 19,
	EBREC_HARDIRQ = 20,
	EBREC_SOFTIRQ = 21,
	EBREC_MAJOR_FAULT = 22,
	EBREC_BLOCK_IO = 23,
	EBREC_FILE_OPEN = 24,
	EBREC_FILE_UNLINK = 25,
	EBREC_FILE_IO = 26,
	EBREC_DNS_LOOKUP = 27,
	EBREC_DNS_QUERY = 28,
	EBREC_SYSCALL = 29,
	EBREC_PAGE_CACHE = 30,
	EBREC_CPU_SAMPLE = 31,
	EBREC_OFF_CPU_SAMPLE = 32,
	EBREC_STACK = 33,
	EBREC_FILE_PATH = 34,
	EBREC_TABLES = 45,
};

_Static_assert(__builtin_offsetof(struct ebrec_task, start) == 0, "ebrec_task.start");
_Static_assert(__builtin_offsetof(struct ebrec_task, pid) == 8, "ebrec_task.pid");
_Static_assert(__builtin_offsetof(struct ebrec_task, tid) == 12, "ebrec_task.tid");
_Static_assert(__builtin_offsetof(struct ebrec_task, comm) == 16, "ebrec_task.comm");
_Static_assert(sizeof(struct ebrec_task) == 32, "ebrec_task");
_Static_assert(__builtin_offsetof(struct ebrec_head, ts) == 0, "ebrec_head.ts");
_Static_assert(__builtin_offsetof(struct ebrec_head, size) == 8, "ebrec_head.size");
_Static_assert(__builtin_offsetof(struct ebrec_head, cpu) == 12, "ebrec_head.cpu");
_Static_assert(__builtin_offsetof(struct ebrec_head, table) == 14, "ebrec_head.table");
_Static_assert(__builtin_offsetof(struct ebrec_head, task) == 16, "ebrec_head.task");
_Static_assert(sizeof(struct ebrec_head) == 48, "ebrec_head");
_Static_assert(__builtin_offsetof(struct ebrec_conn_head, head) == 0, "ebrec_conn_head.head");
_Static_assert(__builtin_offsetof(struct ebrec_conn_head, conn_id) == 48, "ebrec_conn_head.conn_id");
_Static_assert(sizeof(struct ebrec_conn_head) == 56, "ebrec_conn_head");
_Static_assert(__builtin_offsetof(struct ebrec_endpoints, laddr) == 0, "ebrec_endpoints.laddr");
_Static_assert(__builtin_offsetof(struct ebrec_endpoints, raddr) == 16, "ebrec_endpoints.raddr");
_Static_assert(__builtin_offsetof(struct ebrec_endpoints, netns) == 32, "ebrec_endpoints.netns");
_Static_assert(__builtin_offsetof(struct ebrec_endpoints, lport) == 36, "ebrec_endpoints.lport");
_Static_assert(__builtin_offsetof(struct ebrec_endpoints, rport) == 38, "ebrec_endpoints.rport");
_Static_assert(sizeof(struct ebrec_endpoints) == 40, "ebrec_endpoints");
_Static_assert(__builtin_offsetof(struct ebrec_file, id) == 0, "ebrec_file.id");
_Static_assert(__builtin_offsetof(struct ebrec_file, base) == 8, "ebrec_file.base");
_Static_assert(__builtin_offsetof(struct ebrec_file, inode) == 16, "ebrec_file.inode");
_Static_assert(__builtin_offsetof(struct ebrec_file, dev) == 24, "ebrec_file.dev");
_Static_assert(__builtin_offsetof(struct ebrec_file, has_names) == 28, "ebrec_file.has_names");
_Static_assert(__builtin_offsetof(struct ebrec_file, fs) == 32, "ebrec_file.fs");
_Static_assert(sizeof(struct ebrec_file) == 48, "ebrec_file");

/* A task was created (fork, vfork, clone). The acting task is the parent. */
struct ebrec_process_fork {
	struct ebrec_head head; /* Parent. */
	struct ebrec_task child; /* The new task. */
	__u32 is_thread; /* Whether the new task is a thread of its parent's process. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_process_fork, head) == 0, "ebrec_process_fork.head");
_Static_assert(__builtin_offsetof(struct ebrec_process_fork, child) == 48, "ebrec_process_fork.child");
_Static_assert(__builtin_offsetof(struct ebrec_process_fork, is_thread) == 80, "ebrec_process_fork.is_thread");
_Static_assert(__builtin_offsetof(struct ebrec_process_fork, pad) == 84, "ebrec_process_fork.pad");
_Static_assert(sizeof(struct ebrec_process_fork) == 88, "ebrec_process_fork");

/* A program was executed (execve, execveat), or the attempt failed. The acting task is the one that called; its name is the new one if it succeeded. */
struct ebrec_process_exec {
	struct ebrec_head head; /* Caller. */
	__u64 cgroup_id; /* cgroup of the caller. */
	__u32 ppid; /* Parent of the process. */
	__u32 uid; /* Effective user of the caller. */
	__s32 ret; /* What the call returned: 0, or `-errno`. */
	__u32 args_truncated; /* Whether there were more arguments than are recorded: 60 KiB of them, 7 KiB of a failed call; 768 bytes while programs with long ones are executed all the time (a CPU records 2 MiB of those at once, and 1 MiB a second). */
};
/* Followed by the variable-length field exec: File and arguments. */
_Static_assert(__builtin_offsetof(struct ebrec_process_exec, head) == 0, "ebrec_process_exec.head");
_Static_assert(__builtin_offsetof(struct ebrec_process_exec, cgroup_id) == 48, "ebrec_process_exec.cgroup_id");
_Static_assert(__builtin_offsetof(struct ebrec_process_exec, ppid) == 56, "ebrec_process_exec.ppid");
_Static_assert(__builtin_offsetof(struct ebrec_process_exec, uid) == 60, "ebrec_process_exec.uid");
_Static_assert(__builtin_offsetof(struct ebrec_process_exec, ret) == 64, "ebrec_process_exec.ret");
_Static_assert(__builtin_offsetof(struct ebrec_process_exec, args_truncated) == 68, "ebrec_process_exec.args_truncated");
_Static_assert(sizeof(struct ebrec_process_exec) == 72, "ebrec_process_exec");

/* A task ended. A process ended with the row whose `is_thread` is false. */
struct ebrec_process_exit {
	struct ebrec_head head; /* The task that ended. */
	__u64 lifetime_ns; /* How long it lived; of the process, in the row that ends it. */
	__u32 ppid; /* Parent of the process. */
	__u32 exit_code; /* What `wait` reports: the exit status. Null if a signal killed it. */
	__u32 signal; /* The signal that killed it. Null if it exited. */
	__u32 core_dumped; /* Whether it left a core dump. */
	__u32 is_thread; /* Whether other threads of the process live on. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_process_exit, head) == 0, "ebrec_process_exit.head");
_Static_assert(__builtin_offsetof(struct ebrec_process_exit, lifetime_ns) == 48, "ebrec_process_exit.lifetime_ns");
_Static_assert(__builtin_offsetof(struct ebrec_process_exit, ppid) == 56, "ebrec_process_exit.ppid");
_Static_assert(__builtin_offsetof(struct ebrec_process_exit, exit_code) == 60, "ebrec_process_exit.exit_code");
_Static_assert(__builtin_offsetof(struct ebrec_process_exit, signal) == 64, "ebrec_process_exit.signal");
_Static_assert(__builtin_offsetof(struct ebrec_process_exit, core_dumped) == 68, "ebrec_process_exit.core_dumped");
_Static_assert(__builtin_offsetof(struct ebrec_process_exit, is_thread) == 72, "ebrec_process_exit.is_thread");
_Static_assert(__builtin_offsetof(struct ebrec_process_exit, pad) == 76, "ebrec_process_exit.pad");
_Static_assert(sizeof(struct ebrec_process_exit) == 80, "ebrec_process_exit");

/* A task that existed at the start of the window. */
struct ebrec_process {
	struct ebrec_head head; /* The task. */
	__u64 started_ts; /* When its process was started. */
	__u64 cgroup_id; /* cgroup. */
	__u32 ppid; /* Parent of the process. */
	__u32 uid; /* Effective user. */
	__u32 is_thread; /* Whether it is another thread than the process's first. */
	__u32 is_kernel; /* Whether it is a thread of the kernel. */
	__u32 proc; /* Further details from /proc. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_process, head) == 0, "ebrec_process.head");
_Static_assert(__builtin_offsetof(struct ebrec_process, started_ts) == 48, "ebrec_process.started_ts");
_Static_assert(__builtin_offsetof(struct ebrec_process, cgroup_id) == 56, "ebrec_process.cgroup_id");
_Static_assert(__builtin_offsetof(struct ebrec_process, ppid) == 64, "ebrec_process.ppid");
_Static_assert(__builtin_offsetof(struct ebrec_process, uid) == 68, "ebrec_process.uid");
_Static_assert(__builtin_offsetof(struct ebrec_process, is_thread) == 72, "ebrec_process.is_thread");
_Static_assert(__builtin_offsetof(struct ebrec_process, is_kernel) == 76, "ebrec_process.is_kernel");
_Static_assert(__builtin_offsetof(struct ebrec_process, proc) == 80, "ebrec_process.proc");
_Static_assert(__builtin_offsetof(struct ebrec_process, pad) == 84, "ebrec_process.pad");
_Static_assert(sizeof(struct ebrec_process) == 88, "ebrec_process");

/* A cgroup of the v2 hierarchy: one that existed at the start of the window, or was made in it. What it is of is read from its path, which systemd and the runtimes of containers choose. */
struct ebrec_cgroup {
	struct ebrec_head head; /* Who made it. Null: it existed at the start. */
	__u64 cgroup_id; /* Its id, as other tables have it. */
};
/* Followed by the variable-length field path: Its path. */
_Static_assert(__builtin_offsetof(struct ebrec_cgroup, head) == 0, "ebrec_cgroup.head");
_Static_assert(__builtin_offsetof(struct ebrec_cgroup, cgroup_id) == 48, "ebrec_cgroup.cgroup_id");
_Static_assert(sizeof(struct ebrec_cgroup) == 56, "ebrec_cgroup");

/* A context switch: which task left the CPU and how, which one got it and how long it had waited. The acting task is the one that left. At the window's end there is a row for each CPU on which a task runs then: it has neither `prev_state` nor a next task, and makes `prev_ran_ns` complete. Of a switch between a task that is recorded and one that isn't (the recorder's own threads; what filters leave out), the columns about the latter are null, but for the idle task's identity. */
struct ebrec_sched_switch {
	struct ebrec_head head; /* The task that left the CPU. */
	struct ebrec_task next; /* The task that got the CPU. Null: none in the window, or it isn't recorded. */
	__u64 prev_ran_ns; /* Time that the task which left had been on the CPU, as far as it is in the window: over all rows of a CPU, they make the window. */
	__u64 next_waited_ns; /* Time that the next task had been runnable without running: run-queue latency. It may have begun before the window. */
	__u64 next_off_cpu_ns; /* Time since the next task last left a CPU, which may be before the window. */
	__u32 prev_state; /* State in which the previous task left: R (preempted), S, D, T, t, X, Z, P, I. Null: it still ran at the window's end. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_sched_switch, head) == 0, "ebrec_sched_switch.head");
_Static_assert(__builtin_offsetof(struct ebrec_sched_switch, next) == 48, "ebrec_sched_switch.next");
_Static_assert(__builtin_offsetof(struct ebrec_sched_switch, prev_ran_ns) == 80, "ebrec_sched_switch.prev_ran_ns");
_Static_assert(__builtin_offsetof(struct ebrec_sched_switch, next_waited_ns) == 88, "ebrec_sched_switch.next_waited_ns");
_Static_assert(__builtin_offsetof(struct ebrec_sched_switch, next_off_cpu_ns) == 96, "ebrec_sched_switch.next_off_cpu_ns");
_Static_assert(__builtin_offsetof(struct ebrec_sched_switch, prev_state) == 104, "ebrec_sched_switch.prev_state");
_Static_assert(__builtin_offsetof(struct ebrec_sched_switch, pad) == 108, "ebrec_sched_switch.pad");
_Static_assert(sizeof(struct ebrec_sched_switch) == 112, "ebrec_sched_switch");

/* A task was woken, or started for the first time. The acting task is the waker. With filters, what a wanted task does or undergoes: of the other task the columns are null, as of the recorder, if it wakes others; that it is woken itself is not in it. */
struct ebrec_sched_wakeup {
	struct ebrec_head head; /* The waker; the task that was interrupted, if an interrupt woke. */
	struct ebrec_task wakee; /* The task that was woken. Null: the filters leave it out. */
	__u32 target_cpu; /* CPU it was put on. */
	__u32 is_new; /* Whether this is its first time (sched_wakeup_new). */
};
_Static_assert(__builtin_offsetof(struct ebrec_sched_wakeup, head) == 0, "ebrec_sched_wakeup.head");
_Static_assert(__builtin_offsetof(struct ebrec_sched_wakeup, wakee) == 48, "ebrec_sched_wakeup.wakee");
_Static_assert(__builtin_offsetof(struct ebrec_sched_wakeup, target_cpu) == 80, "ebrec_sched_wakeup.target_cpu");
_Static_assert(__builtin_offsetof(struct ebrec_sched_wakeup, is_new) == 84, "ebrec_sched_wakeup.is_new");
_Static_assert(sizeof(struct ebrec_sched_wakeup) == 88, "ebrec_sched_wakeup");

/* A connection that was seen: one row each, written when it ends or when the window does. */
struct ebrec_tcp_connection {
	struct ebrec_conn_head head; /* Connection. */
	struct ebrec_endpoints ends; /* Both ends. */
	__u64 opened_ts; /* When it was established or, if it never was, when it was tried. Null: before the window. */
	__u64 closed_ts; /* When it ended. Null: after the window. */
	__u32 direction; /* Who opened it. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connection, head) == 0, "ebrec_tcp_connection.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connection, ends) == 56, "ebrec_tcp_connection.ends");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connection, opened_ts) == 96, "ebrec_tcp_connection.opened_ts");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connection, closed_ts) == 104, "ebrec_tcp_connection.closed_ts");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connection, direction) == 112, "ebrec_tcp_connection.direction");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connection, pad) == 116, "ebrec_tcp_connection.pad");
_Static_assert(sizeof(struct ebrec_tcp_connection) == 120, "ebrec_tcp_connection");

/* An outbound connection was established, the attempt failed or was given up; or, at the end of the window, is still pending. Also one that failed before anything was sent (no route, no port left, a firewall's rule): what connect(2) returned. */
struct ebrec_tcp_connect {
	struct ebrec_conn_head head; /* Connection. */
	struct ebrec_endpoints ends; /* Both ends. */
	__u64 latency_ns; /* From the SYN to the answer; if it is pending, to the window's end. Null: it began before the window. */
	__u32 errno; /* 0, or why it failed. Null: given up or pending. */
	__u32 outcome; /* What became of it. Null in captures of older recorders. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connect, head) == 0, "ebrec_tcp_connect.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connect, ends) == 56, "ebrec_tcp_connect.ends");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connect, latency_ns) == 96, "ebrec_tcp_connect.latency_ns");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connect, errno) == 104, "ebrec_tcp_connect.errno");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_connect, outcome) == 108, "ebrec_tcp_connect.outcome");
_Static_assert(sizeof(struct ebrec_tcp_connect) == 112, "ebrec_tcp_connect");

/* An inbound connection was accepted by a program. */
struct ebrec_tcp_accept {
	struct ebrec_conn_head head; /* Connection. */
	struct ebrec_endpoints ends; /* Both ends. */
	__u64 queued_ns; /* From established to accepted: how long it waited in the listener's queue. Null: established before the window. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_accept, head) == 0, "ebrec_tcp_accept.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_accept, ends) == 56, "ebrec_tcp_accept.ends");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_accept, queued_ns) == 96, "ebrec_tcp_accept.queued_ns");
_Static_assert(sizeof(struct ebrec_tcp_accept) == 104, "ebrec_tcp_accept");

/* A connection ended. */
struct ebrec_tcp_close {
	struct ebrec_conn_head head; /* Connection. */
	struct ebrec_endpoints ends; /* Both ends. */
	__u64 duration_ns; /* Since it was established. Null: established before the window, or never. */
	__u64 tx_bytes; /* Payload bytes that were sent and acknowledged, over its whole life. */
	__u64 rx_bytes; /* Payload bytes that were received, over its whole life. */
	__u64 srtt_ns; /* Smoothed round-trip time at the end. Null: never measured. */
	__u32 retransmits; /* Segments that were sent again, over its whole life. */
	__u32 old_state; /* State that it ended from. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_close, head) == 0, "ebrec_tcp_close.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_close, ends) == 56, "ebrec_tcp_close.ends");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_close, duration_ns) == 96, "ebrec_tcp_close.duration_ns");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_close, tx_bytes) == 104, "ebrec_tcp_close.tx_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_close, rx_bytes) == 112, "ebrec_tcp_close.rx_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_close, srtt_ns) == 120, "ebrec_tcp_close.srtt_ns");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_close, retransmits) == 128, "ebrec_tcp_close.retransmits");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_close, old_state) == 132, "ebrec_tcp_close.old_state");
_Static_assert(sizeof(struct ebrec_tcp_close) == 136, "ebrec_tcp_close");

/* A connection changed its state. */
struct ebrec_tcp_state {
	struct ebrec_conn_head head; /* Connection. */
	struct ebrec_endpoints ends; /* Both ends. */
	__u64 in_old_state_ns; /* Time spent in the old state. Null: entered before the window. */
	__u32 old_state; /* State before. */
	__u32 new_state; /* State after. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_state, head) == 0, "ebrec_tcp_state.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_state, ends) == 56, "ebrec_tcp_state.ends");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_state, in_old_state_ns) == 96, "ebrec_tcp_state.in_old_state_ns");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_state, old_state) == 104, "ebrec_tcp_state.old_state");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_state, new_state) == 108, "ebrec_tcp_state.new_state");
_Static_assert(sizeof(struct ebrec_tcp_state) == 112, "ebrec_tcp_state");

/* A call that put bytes into a connection. The task is the caller. */
struct ebrec_tcp_send {
	struct ebrec_conn_head head; /* Connection. */
	__u64 bytes; /* Payload bytes that were accepted. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_send, head) == 0, "ebrec_tcp_send.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_send, bytes) == 56, "ebrec_tcp_send.bytes");
_Static_assert(sizeof(struct ebrec_tcp_send) == 64, "ebrec_tcp_send");

/* A call that took bytes out of a connection; looks without taking (MSG_PEEK) and what comes out of the error queue are not counted. The task is the caller. */
struct ebrec_tcp_recv {
	struct ebrec_conn_head head; /* Connection. */
	__u64 bytes; /* Payload bytes that were returned. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_recv, head) == 0, "ebrec_tcp_recv.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_recv, bytes) == 56, "ebrec_tcp_recv.bytes");
_Static_assert(sizeof(struct ebrec_tcp_recv) == 64, "ebrec_tcp_recv");

/* A segment was sent again. Several segments that leave as one (GSO) are one row. */
struct ebrec_tcp_retransmit {
	struct ebrec_conn_head head; /* Connection. Of a SYN that is answered once more (state `NEW_SYN_RECV`), the listening socket. */
	struct ebrec_endpoints ends; /* Both ends. */
	__u32 state; /* State of the connection. */
	__u32 kind; /* What made it. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_retransmit, head) == 0, "ebrec_tcp_retransmit.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_retransmit, ends) == 56, "ebrec_tcp_retransmit.ends");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_retransmit, state) == 96, "ebrec_tcp_retransmit.state");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_retransmit, kind) == 100, "ebrec_tcp_retransmit.kind");
_Static_assert(sizeof(struct ebrec_tcp_retransmit) == 104, "ebrec_tcp_retransmit");

/* A reset was sent or received. A reset that answers a segment without a socket has no connection: only the ends, seen from here. Of a reset that comes for a connection which isn't established yet on the listening side the kernel doesn't tell. */
struct ebrec_tcp_reset {
	struct ebrec_conn_head head; /* Connection. */
	struct ebrec_endpoints ends; /* Both ends. */
	__u32 way; /* Whether it was sent or received. */
	__u32 state; /* State of the connection. Null: there is none. */
	__u32 reason; /* Why it was sent, as the kernel names it (include/net/rstreason.h). Null: received, or the kernel doesn't tell (before 6.10). */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_reset, head) == 0, "ebrec_tcp_reset.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_reset, ends) == 56, "ebrec_tcp_reset.ends");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_reset, way) == 96, "ebrec_tcp_reset.way");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_reset, state) == 100, "ebrec_tcp_reset.state");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_reset, reason) == 104, "ebrec_tcp_reset.reason");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_reset, pad) == 108, "ebrec_tcp_reset.pad");
_Static_assert(sizeof(struct ebrec_tcp_reset) == 112, "ebrec_tcp_reset");

/* What TCP knew of an established connection's path when a segment arrived; at most one sample per connection in 100 ms, where `tcprtt` counts every segment: its histogram weighs connections by their segments, this one by their time. */
struct ebrec_tcp_rtt {
	struct ebrec_conn_head head; /* Connection. */
	__u64 srtt_ns; /* Smoothed round-trip time (RFC 6298). */
	__u64 mdev_ns; /* Smoothed deviation from it. */
	__u64 min_rtt_ns; /* Shortest round trip in the last minutes (net.ipv4.tcp_min_rtt_wlen). Null: none measured. */
	__u32 snd_cwnd; /* Congestion window, segments. */
	__u32 ssthresh; /* Slow-start threshold, segments; 2147483647 as long as there was no congestion. */
	__u32 in_flight; /* Segments on their way. */
	__u32 unacked_bytes; /* Bytes that were sent and not acknowledged. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_rtt, head) == 0, "ebrec_tcp_rtt.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_rtt, srtt_ns) == 56, "ebrec_tcp_rtt.srtt_ns");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_rtt, mdev_ns) == 64, "ebrec_tcp_rtt.mdev_ns");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_rtt, min_rtt_ns) == 72, "ebrec_tcp_rtt.min_rtt_ns");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_rtt, snd_cwnd) == 80, "ebrec_tcp_rtt.snd_cwnd");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_rtt, ssthresh) == 84, "ebrec_tcp_rtt.ssthresh");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_rtt, in_flight) == 88, "ebrec_tcp_rtt.in_flight");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_rtt, unacked_bytes) == 92, "ebrec_tcp_rtt.unacked_bytes");
_Static_assert(sizeof(struct ebrec_tcp_rtt) == 96, "ebrec_tcp_rtt");

/* A TCP socket that existed at the start of the window, listening ones included. */
struct ebrec_tcp_socket {
	struct ebrec_conn_head head; /* Connection. */
	struct ebrec_endpoints ends; /* Both ends. */
	__u64 tx_bytes; /* Payload bytes sent and acknowledged before the window. */
	__u64 rx_bytes; /* Payload bytes received before the window. */
	__u32 state; /* State of the connection. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_tcp_socket, head) == 0, "ebrec_tcp_socket.head");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_socket, ends) == 56, "ebrec_tcp_socket.ends");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_socket, tx_bytes) == 96, "ebrec_tcp_socket.tx_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_socket, rx_bytes) == 104, "ebrec_tcp_socket.rx_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_socket, state) == 112, "ebrec_tcp_socket.state");
_Static_assert(__builtin_offsetof(struct ebrec_tcp_socket, pad) == 116, "ebrec_tcp_socket.pad");
_Static_assert(sizeof(struct ebrec_tcp_socket) == 120, "ebrec_tcp_socket");

/* A signal was sent, by a task or by the kernel on behalf of whichever task ran. The acting task is the sender; `code` tells whether it meant it: `SI_USER`, `SI_TKILL` and `SI_QUEUE` come from system calls of the sender, `SI_KERNEL` and the codes of faults, children and timers from the kernel. Filters let through what a wanted task sends or gets. */
struct ebrec_signal {
	struct ebrec_head head; /* The sender; for signals of the kernel the task that ran, be it the target itself (a fault), the child that ended, or any that a timer interrupted. */
	struct ebrec_task target; /* The task that gets it; of a process, one of its threads. Null: the recorder itself. */
	__u32 signal; /* Number of the signal. */
	__u32 name; /* Name of the signal. */
	__u32 code; /* Why it was sent (si_code in sigaction(2)). */
	__u32 result; /* What became of it. */
	__u32 is_group; /* Whether it is for the whole process, not one thread. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_signal, head) == 0, "ebrec_signal.head");
_Static_assert(__builtin_offsetof(struct ebrec_signal, target) == 48, "ebrec_signal.target");
_Static_assert(__builtin_offsetof(struct ebrec_signal, signal) == 80, "ebrec_signal.signal");
_Static_assert(__builtin_offsetof(struct ebrec_signal, name) == 84, "ebrec_signal.name");
_Static_assert(__builtin_offsetof(struct ebrec_signal, code) == 88, "ebrec_signal.code");
_Static_assert(__builtin_offsetof(struct ebrec_signal, result) == 92, "ebrec_signal.result");
_Static_assert(__builtin_offsetof(struct ebrec_signal, is_group) == 96, "ebrec_signal.is_group");
_Static_assert(__builtin_offsetof(struct ebrec_signal, pad) == 100, "ebrec_signal.pad");
_Static_assert(sizeof(struct ebrec_signal) == 104, "ebrec_signal");

/* The kernel chose a process to kill because memory ran out. The acting task is the one whose allocation failed. */
struct ebrec_oom_kill {
	struct ebrec_head head; /* The task that needed memory. */
	struct ebrec_task victim; /* The victim. Null: the recorder itself, or this kernel doesn't tell. */
	__u64 total_vm_bytes; /* Virtual memory of the victim (VmSize). */
	__u64 anon_rss_bytes; /* Its anonymous memory in RAM (RssAnon). */
	__u64 file_rss_bytes; /* Its file pages in RAM (RssFile). */
	__u64 shmem_rss_bytes; /* Its shared memory in RAM (RssShmem). */
	__u64 victim_cgroup_id; /* cgroup v2 of the victim. */
	__u64 limit_cgroup_id; /* cgroup whose limit was hit; in the hierarchy of the memory controller, which on cgroup v1 is its own. Null: not a cgroup's limit, or not visible on this kernel. */
	__u64 allowed_bytes; /* Memory that the search was about: the host's, the nodes', or the limit of the cgroup. Null: not visible on this kernel. */
	__u32 oom_constraint; /* What ran out. Null: not visible on this kernel. */
	__s32 oom_score_adj; /* oom_score_adj of the victim, -1000 to 1000. */
	__u32 victim_uid; /* Effective user of the victim. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, head) == 0, "ebrec_oom_kill.head");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, victim) == 48, "ebrec_oom_kill.victim");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, total_vm_bytes) == 80, "ebrec_oom_kill.total_vm_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, anon_rss_bytes) == 88, "ebrec_oom_kill.anon_rss_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, file_rss_bytes) == 96, "ebrec_oom_kill.file_rss_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, shmem_rss_bytes) == 104, "ebrec_oom_kill.shmem_rss_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, victim_cgroup_id) == 112, "ebrec_oom_kill.victim_cgroup_id");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, limit_cgroup_id) == 120, "ebrec_oom_kill.limit_cgroup_id");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, allowed_bytes) == 128, "ebrec_oom_kill.allowed_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, oom_constraint) == 136, "ebrec_oom_kill.oom_constraint");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, oom_score_adj) == 140, "ebrec_oom_kill.oom_score_adj");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, victim_uid) == 144, "ebrec_oom_kill.victim_uid");
_Static_assert(__builtin_offsetof(struct ebrec_oom_kill, pad) == 148, "ebrec_oom_kill.pad");
_Static_assert(sizeof(struct ebrec_oom_kill) == 152, "ebrec_oom_kill");

/* Handlers of a hardware interrupt on one CPU in 100 ms: one row for each power of two that their lengths fall into. What the kernel serves without a handler (local timer, IPIs) is not in it, as in `hardirqs`. Empty if filters are on: interrupts belong to no task. */
struct ebrec_hardirq {
	struct ebrec_head head; /* When the last of them ended. */
	__u64 since_ts; /* When the first of the interval, of any length, began. */
	__u64 total_ns; /* Time that these took in all. */
	__u64 max_ns; /* Time that the longest of them took. */
	__u64 count; /* How many. */
	__u64 at_least_ns; /* Each took at least this long, a power of two, and less than double; the largest, 2^29, is open. */
	__u32 irq; /* Number of the interrupt, as in /proc/interrupts. */
	__u32 pad; /* Padding. */
	char name[32]; /* Name of the handler, as in /proc/interrupts. */
};
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, head) == 0, "ebrec_hardirq.head");
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, since_ts) == 48, "ebrec_hardirq.since_ts");
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, total_ns) == 56, "ebrec_hardirq.total_ns");
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, max_ns) == 64, "ebrec_hardirq.max_ns");
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, count) == 72, "ebrec_hardirq.count");
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, at_least_ns) == 80, "ebrec_hardirq.at_least_ns");
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, irq) == 88, "ebrec_hardirq.irq");
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, pad) == 92, "ebrec_hardirq.pad");
_Static_assert(__builtin_offsetof(struct ebrec_hardirq, name) == 96, "ebrec_hardirq.name");
_Static_assert(sizeof(struct ebrec_hardirq) == 128, "ebrec_hardirq");

/* Runs of a soft interrupt on one CPU in 100 ms: one row for each power of two that their lengths fall into. Time includes the hardware interrupts that came in between. Empty if filters are on: interrupts belong to no task. */
struct ebrec_softirq {
	struct ebrec_head head; /* When the last of them ended. */
	__u64 since_ts; /* When the first of the interval, of any length, began. */
	__u64 total_ns; /* Time that these took in all. */
	__u64 max_ns; /* Time that the longest of them took. */
	__u64 count; /* How many. */
	__u64 at_least_ns; /* Each took at least this long, a power of two, and less than double; the largest, 2^29, is open. */
	__u32 vector; /* The soft interrupt, as `softirqs` names it. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_softirq, head) == 0, "ebrec_softirq.head");
_Static_assert(__builtin_offsetof(struct ebrec_softirq, since_ts) == 48, "ebrec_softirq.since_ts");
_Static_assert(__builtin_offsetof(struct ebrec_softirq, total_ns) == 56, "ebrec_softirq.total_ns");
_Static_assert(__builtin_offsetof(struct ebrec_softirq, max_ns) == 64, "ebrec_softirq.max_ns");
_Static_assert(__builtin_offsetof(struct ebrec_softirq, count) == 72, "ebrec_softirq.count");
_Static_assert(__builtin_offsetof(struct ebrec_softirq, at_least_ns) == 80, "ebrec_softirq.at_least_ns");
_Static_assert(__builtin_offsetof(struct ebrec_softirq, vector) == 88, "ebrec_softirq.vector");
_Static_assert(__builtin_offsetof(struct ebrec_softirq, pad) == 92, "ebrec_softirq.pad");
_Static_assert(sizeof(struct ebrec_softirq) == 96, "ebrec_softirq");

/* A major page fault: the page had to be read, from a file or from swap, while the task waited. As many as `ru_majflt` of getrusage(2) counts. `ts` is when it was over. */
struct ebrec_major_fault {
	struct ebrec_head head; /* The task that touched the page. */
	__u64 address; /* What it touched. */
	__u64 ip; /* The instruction; of the kernel, if it touched the page on behalf of the task. */
};
_Static_assert(__builtin_offsetof(struct ebrec_major_fault, head) == 0, "ebrec_major_fault.head");
_Static_assert(__builtin_offsetof(struct ebrec_major_fault, address) == 48, "ebrec_major_fault.address");
_Static_assert(__builtin_offsetof(struct ebrec_major_fault, ip) == 56, "ebrec_major_fault.ip");
_Static_assert(sizeof(struct ebrec_major_fault) == 64, "ebrec_major_fault");

/* A request that a block device has completed, after merging and splitting: what iostat counts. Of devices without requests (dm, md, zram, brd: those that pass on or handle what they get at once), a bio, as it was submitted. A disk's rows are all of one `layer`, so nothing counts twice on a disk; but what goes through a stack of disks (dm over sda, loop over vda) is I/O of each of them. Flushes: a flush is a row of its own (`op` flush); the request that it was made for is a row only if it has data. A request that was issued before the window has no times, and a task only if recording was being prepared by then; one that is not over at its end has neither `latency_ns` nor `error`. */
struct ebrec_block_io {
	struct ebrec_head head; /* The task that made the request: of several merged ones, the first; of a flush, the one that waited for it longest. */
	__u64 sector; /* First sector, of the whole disk even if it was addressed to a partition. Null: flushes and driver commands. */
	__u64 bytes; /* Bytes of the whole request, whether they were done or failed. */
	__u64 queued_ns; /* Time in the queue: from insertion until it was issued to the driver, the last time if it was put back. Null: it never was inserted. */
	__u64 latency_ns; /* Time at the device: from issue (the last one) to completion; for bios, from submission to completion. */
	char disk[32]; /* Name of the disk below /dev. */
	__u32 dev; /* major:minor of the partition that it was addressed to, else of the disk; joins `mount.dev`. */
	__u32 op; /* Operation: read, write, flush, discard, write_zeroes, secure_erase, zone_…; drv_in and drv_out are commands passed through to the driver. */
	__u32 flags; /* Flags, joined by `|`, as the driver sees them: sync, meta, prio, fua, preflush, readahead, background, nowait, polled, swap, atomic. */
	__u32 error; /* Error as errno, 0 is success; EIO also stands for statuses that this version doesn't know. Null: not over within the window. */
	__u32 layer; /* request or bio. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_block_io, head) == 0, "ebrec_block_io.head");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, sector) == 48, "ebrec_block_io.sector");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, bytes) == 56, "ebrec_block_io.bytes");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, queued_ns) == 64, "ebrec_block_io.queued_ns");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, latency_ns) == 72, "ebrec_block_io.latency_ns");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, disk) == 80, "ebrec_block_io.disk");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, dev) == 112, "ebrec_block_io.dev");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, op) == 116, "ebrec_block_io.op");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, flags) == 120, "ebrec_block_io.flags");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, error) == 124, "ebrec_block_io.error");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, layer) == 128, "ebrec_block_io.layer");
_Static_assert(__builtin_offsetof(struct ebrec_block_io, pad) == 132, "ebrec_block_io.pad");
_Static_assert(sizeof(struct ebrec_block_io) == 136, "ebrec_block_io");

/* A call to open a file (open, openat, openat2, creat), failed ones too. `ts` is when the call began, if that was in the window. */
struct ebrec_file_open {
	struct ebrec_head head; /* Caller. */
	__u64 latency_ns; /* How long the call took. Null: it began before the window, or was refused. */
	__u32 uid; /* Effective user of the caller. */
	__u32 flags; /* Flags, as open(2) names them; what has no name as octal number. Null: unreadable. */
	__u32 mode; /* Permissions of the file that is to be made, octal, before the umask. Null: none is to be made. */
	__u32 fd; /* The descriptor. Null: the call failed. */
	__u32 errno; /* 0, or why it failed. A call that a signal interrupts is EINTR here, although the kernel may repeat it. */
	__u32 is_new; /* Whether the call made the file. */
	__u32 outcome; /* What became of it. Null in captures of older recorders. */
	__u32 pad; /* Padding. */
};
/* Followed by the variable-length field path: The directory's number, then the path and its NUL, if it was readable. */
_Static_assert(__builtin_offsetof(struct ebrec_file_open, head) == 0, "ebrec_file_open.head");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, latency_ns) == 48, "ebrec_file_open.latency_ns");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, uid) == 56, "ebrec_file_open.uid");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, flags) == 60, "ebrec_file_open.flags");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, mode) == 64, "ebrec_file_open.mode");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, fd) == 68, "ebrec_file_open.fd");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, errno) == 72, "ebrec_file_open.errno");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, is_new) == 76, "ebrec_file_open.is_new");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, outcome) == 80, "ebrec_file_open.outcome");
_Static_assert(__builtin_offsetof(struct ebrec_file_open, pad) == 84, "ebrec_file_open.pad");
_Static_assert(sizeof(struct ebrec_file_open) == 88, "ebrec_file_open");

/* A call to remove a file's name (unlink, unlinkat), failed ones too; not directories, and not files that another one is renamed to. `ts` is when the call began, if that was in the window. */
struct ebrec_file_unlink {
	struct ebrec_head head; /* Caller. */
	__u64 latency_ns; /* How long the call took. Null: it began before the window, or was refused. */
	__u32 errno; /* 0, or why it failed. */
	__u32 outcome; /* What became of it. Null in captures of older recorders. */
};
/* Followed by the variable-length field path: The same as of `file_open`. */
_Static_assert(__builtin_offsetof(struct ebrec_file_unlink, head) == 0, "ebrec_file_unlink.head");
_Static_assert(__builtin_offsetof(struct ebrec_file_unlink, latency_ns) == 48, "ebrec_file_unlink.latency_ns");
_Static_assert(__builtin_offsetof(struct ebrec_file_unlink, errno) == 56, "ebrec_file_unlink.errno");
_Static_assert(__builtin_offsetof(struct ebrec_file_unlink, outcome) == 60, "ebrec_file_unlink.outcome");
_Static_assert(sizeof(struct ebrec_file_unlink) == 64, "ebrec_file_unlink");

/* A system call, or request of io_uring, that read, wrote, synced, truncated or opened a regular file; a call between two files (sendfile, copy_file_range, splice) is a read of the one and a write of the other. `ts` is when the call began, if that was in the window. What io_uring did is missing where the hook `uring` is. Not in it, on any kernel: what is read and written through mapped memory, opened or truncated by io_uring, or done by aio(7) and by the kernel itself (loop devices, NFS server, execve). */
struct ebrec_file_io {
	struct ebrec_head head; /* Caller. */
	__u32 op; /* What was done. */
	__u32 errno; /* 0, or why it failed. */
	__u64 file; /* The file. */
	__u64 offset; /* Where in the file it began; the new length, for a truncate. Null: it has no place, or the file was appended to by a call that names another. */
	__u64 requested_bytes; /* Bytes that were asked for. */
	__u64 bytes; /* Bytes that were read or written; 0 if it failed. */
	__u64 latency_ns; /* How long the call took. Null: it began before the window, or seccomp or a tracer refused it before it began. */
};
_Static_assert(__builtin_offsetof(struct ebrec_file_io, head) == 0, "ebrec_file_io.head");
_Static_assert(__builtin_offsetof(struct ebrec_file_io, op) == 48, "ebrec_file_io.op");
_Static_assert(__builtin_offsetof(struct ebrec_file_io, errno) == 52, "ebrec_file_io.errno");
_Static_assert(__builtin_offsetof(struct ebrec_file_io, file) == 56, "ebrec_file_io.file");
_Static_assert(__builtin_offsetof(struct ebrec_file_io, offset) == 64, "ebrec_file_io.offset");
_Static_assert(__builtin_offsetof(struct ebrec_file_io, requested_bytes) == 72, "ebrec_file_io.requested_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_file_io, bytes) == 80, "ebrec_file_io.bytes");
_Static_assert(__builtin_offsetof(struct ebrec_file_io, latency_ns) == 88, "ebrec_file_io.latency_ns");
_Static_assert(sizeof(struct ebrec_file_io) == 96, "ebrec_file_io");

/* A call of the C library's resolver (getaddrinfo, gethostbyname…), glibc's or musl's, a container's own included. `ts` is when it was called, and one that was called before the window has no row; calls of it within it are part of the same row. Programs that bring their own resolver (Go, static ones, dig) are in `dns_query` only. */
struct ebrec_dns_lookup {
	struct ebrec_head head; /* Caller. */
	__u64 latency_ns; /* From call to return. Null: it had not returned when the window or its thread ended. */
	__s32 result; /* Outcome. */
	__u32 function; /* The function that was called. */
};
/* Followed by the variable-length field names: What was looked up. */
_Static_assert(__builtin_offsetof(struct ebrec_dns_lookup, head) == 0, "ebrec_dns_lookup.head");
_Static_assert(__builtin_offsetof(struct ebrec_dns_lookup, latency_ns) == 48, "ebrec_dns_lookup.latency_ns");
_Static_assert(__builtin_offsetof(struct ebrec_dns_lookup, result) == 56, "ebrec_dns_lookup.result");
_Static_assert(__builtin_offsetof(struct ebrec_dns_lookup, function) == 60, "ebrec_dns_lookup.function");
_Static_assert(sizeof(struct ebrec_dns_lookup) == 64, "ebrec_dns_lookup");

/* A question to a DNS server over UDP or TCP port 53 and its answer, whatever program asked it. `ts` is when it was sent, and one that was sent before the window has no row. The same message on its way through several interfaces is one row, and so is one that was sent again. Where addresses are translated on the way (Docker's own resolver), the server is the one that the program asked. Not seen: encrypted DNS, other ports, of one segment of TCP the messages after the second, and messages that an older kernel keeps in pages of its own (nearly all by TCP). */
struct ebrec_dns_query {
	struct ebrec_head head; /* Who sent the question. */
	struct ebrec_endpoints ends; /* Both ends; the remote one is the server, as the program addressed it. */
	__u64 latency_ns; /* From the first time it was sent to the arrival of the answer. Null: no answer came in 30 s, or before the window's end. */
	__u32 protocol; /* `udp` or `tcp`. */
	__u32 attempts; /* How often it was sent: more than once if the program, or TCP, sent the same message again. */
	__u32 request_bytes; /* Size of the question's message. */
	__u32 response_bytes; /* Size of the answer's message. Null: there was none. */
	__u32 outcome; /* What became of it: `succeeded` with NOERROR, `failed` with another answer, `given up` after 30 s, or `pending` at the window's end. Null in captures of older recorders. */
	__u32 pad; /* Padding. */
};
/* Followed by the variable-length field message: The messages. */
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, head) == 0, "ebrec_dns_query.head");
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, ends) == 48, "ebrec_dns_query.ends");
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, latency_ns) == 88, "ebrec_dns_query.latency_ns");
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, protocol) == 96, "ebrec_dns_query.protocol");
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, attempts) == 100, "ebrec_dns_query.attempts");
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, request_bytes) == 104, "ebrec_dns_query.request_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, response_bytes) == 108, "ebrec_dns_query.response_bytes");
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, outcome) == 112, "ebrec_dns_query.outcome");
_Static_assert(__builtin_offsetof(struct ebrec_dns_query, pad) == 116, "ebrec_dns_query.pad");
_Static_assert(sizeof(struct ebrec_dns_query) == 120, "ebrec_dns_query");

/* A system call. `ts` is when it began. A call that began before the window has no `latency_ns`, and `ts` is when it returned; so is one that seccomp or a tracer refused before it began (the first of a thread that is seen in the window, if the thread is older, can't be told from the former); one that didn't return within the window, or never does (exit, exit_group), has neither `ret` nor `latency_ns`. Not in it: what was in progress during the whole window, calls of the 32-bit ABI, and a child's return from the call that made it. */
struct ebrec_syscall {
	struct ebrec_head head; /* Caller. */
	__u32 call; /* Which call. */
	__u32 outcome; /* What became of it: `succeeded` (exit and exit_group, too), `failed`, `pending` at the end of the window, or `refused`, with the error in `ret`. Null in captures of older recorders. */
	__s64 ret; /* What it returned: negative is `-errno`; -512 to -516 are the kernel's own, for calls that a signal interrupts and that are then made again or fail with EINTR (include/linux/errno.h). */
	__u64 latency_ns; /* From the call to its return. Null: it began before the window, was refused, or didn't return. */
};
_Static_assert(__builtin_offsetof(struct ebrec_syscall, head) == 0, "ebrec_syscall.head");
_Static_assert(__builtin_offsetof(struct ebrec_syscall, call) == 48, "ebrec_syscall.call");
_Static_assert(__builtin_offsetof(struct ebrec_syscall, outcome) == 52, "ebrec_syscall.outcome");
_Static_assert(__builtin_offsetof(struct ebrec_syscall, ret) == 56, "ebrec_syscall.ret");
_Static_assert(__builtin_offsetof(struct ebrec_syscall, latency_ns) == 64, "ebrec_syscall.latency_ns");
_Static_assert(sizeof(struct ebrec_syscall) == 72, "ebrec_syscall");

/* What a process did with the page cache on one CPU in an interval of 100 ms; `ts` is the interval's start, but not before the window's, and there is no row where it did nothing. Counts are pages, of 4 KiB on most hosts. Files on tmpfs, direct I/O and DAX are not in it. The acting task is the process's first thread that did something in the interval; kernel threads have rows as well. */
struct ebrec_page_cache {
	struct ebrec_head head; /* A thread of the process. */
	__u64 interval_ns; /* Length of the interval. */
	__u32 accesses; /* Pages that reads looked up: each call counts each page that it touches. Since Linux 6.10 any read of a file's pages, up to the end of the file (hook accesses by tp_btf); before, what read, pread64, readv, preadv, preadv2 and sendfile have read (by sys_exit). Null: reads are not seen on this kernel (hook accesses). */
	__u32 misses; /* Pages that reads asked for and that had to be added: 1 - misses / accesses is the hit ratio. Calls as listed above: others (io_uring, splice, exec) count in `added` alone. */
	__u32 readahead; /* Pages that the kernel added beyond those that a read or fault asked for, or because of readahead, posix_fadvise, madvise. */
	__u32 fault_misses; /* Pages that page faults asked for and that had to be added. Null: no page fault was seen on this kernel (hook faults). */
	__u32 added; /* Pages added in all; beyond misses, readahead and fault_misses: to be written, or in ways that don't tell what they ask for. */
	__u32 dirtied; /* Pages that became dirty, metadata of file systems included; of a large folio all. */
};
_Static_assert(__builtin_offsetof(struct ebrec_page_cache, head) == 0, "ebrec_page_cache.head");
_Static_assert(__builtin_offsetof(struct ebrec_page_cache, interval_ns) == 48, "ebrec_page_cache.interval_ns");
_Static_assert(__builtin_offsetof(struct ebrec_page_cache, accesses) == 56, "ebrec_page_cache.accesses");
_Static_assert(__builtin_offsetof(struct ebrec_page_cache, misses) == 60, "ebrec_page_cache.misses");
_Static_assert(__builtin_offsetof(struct ebrec_page_cache, readahead) == 64, "ebrec_page_cache.readahead");
_Static_assert(__builtin_offsetof(struct ebrec_page_cache, fault_misses) == 68, "ebrec_page_cache.fault_misses");
_Static_assert(__builtin_offsetof(struct ebrec_page_cache, added) == 72, "ebrec_page_cache.added");
_Static_assert(__builtin_offsetof(struct ebrec_page_cache, dirtied) == 76, "ebrec_page_cache.dirtied");
_Static_assert(sizeof(struct ebrec_page_cache) == 80, "ebrec_page_cache");

/* A tick of the profiler (`--sample-hz` times a second on each CPU) that found a task running. Ticks that find a CPU idle leave no row. */
struct ebrec_cpu_sample {
	struct ebrec_head head; /* The task that ran. */
	__u64 user_stack_id; /* Its stack in user mode, a row of `stack`. Null: it has none (a kernel thread), or it can't be read. */
	__u64 kernel_stack_id; /* Its stack in the kernel. Null: it ran in user mode. */
};
_Static_assert(__builtin_offsetof(struct ebrec_cpu_sample, head) == 0, "ebrec_cpu_sample.head");
_Static_assert(__builtin_offsetof(struct ebrec_cpu_sample, user_stack_id) == 48, "ebrec_cpu_sample.user_stack_id");
_Static_assert(__builtin_offsetof(struct ebrec_cpu_sample, kernel_stack_id) == 56, "ebrec_cpu_sample.kernel_stack_id");
_Static_assert(sizeof(struct ebrec_cpu_sample) == 64, "ebrec_cpu_sample");

/* A task that had blocked is back on a CPU (only with `--off-cpu-stacks`). Tasks that were preempted aren't here. */
struct ebrec_off_cpu_sample {
	struct ebrec_head head; /* The task. */
	__u64 duration_ns; /* Time since it left the CPU: what it waited for, and then for a CPU. */
	__u64 user_stack_id; /* The stack in user mode with which it blocked, a row of `stack`. Null: it has none, or it can't be read. */
	__u64 kernel_stack_id; /* The stack in the kernel with which it blocked. */
	__u32 state; /* State in which it left: S, D, T, t, X, Z, P, I. */
	__u32 pad; /* Padding. */
};
_Static_assert(__builtin_offsetof(struct ebrec_off_cpu_sample, head) == 0, "ebrec_off_cpu_sample.head");
_Static_assert(__builtin_offsetof(struct ebrec_off_cpu_sample, duration_ns) == 48, "ebrec_off_cpu_sample.duration_ns");
_Static_assert(__builtin_offsetof(struct ebrec_off_cpu_sample, user_stack_id) == 56, "ebrec_off_cpu_sample.user_stack_id");
_Static_assert(__builtin_offsetof(struct ebrec_off_cpu_sample, kernel_stack_id) == 64, "ebrec_off_cpu_sample.kernel_stack_id");
_Static_assert(__builtin_offsetof(struct ebrec_off_cpu_sample, state) == 72, "ebrec_off_cpu_sample.state");
_Static_assert(__builtin_offsetof(struct ebrec_off_cpu_sample, pad) == 76, "ebrec_off_cpu_sample.pad");
_Static_assert(sizeof(struct ebrec_off_cpu_sample) == 80, "ebrec_off_cpu_sample");

/* A stack that `cpu_sample` or `off_cpu_sample` names. User stacks are found by frame pointers, so code that was built without has gaps. */
struct ebrec_stack {
	struct ebrec_head head; /* Whose addresses they are. */
	__u64 stack_id; /* Number of the stack, unique within the capture. */
	__u32 kind; /* `user` or `kernel`. */
	__u32 truncated; /* Whether it goes on beyond the frames that the kernel gives (kernel.perf_event_max_stack, 127 at most). */
	__u32 depth; /* Frames. */
	__u32 exec; /* Programs that the process has executed: each has other addresses. */
	__u32 proc; /* The process's pid in the recorder's /proc; 0: it isn't there. */
	__u32 pad; /* Padding. */
};
/* Followed by the variable-length field frames: Addresses, leaf first, 8 bytes each; then for user stacks a `struct bpf_stack_build_id` each, if the kernel gives them. */
_Static_assert(__builtin_offsetof(struct ebrec_stack, head) == 0, "ebrec_stack.head");
_Static_assert(__builtin_offsetof(struct ebrec_stack, stack_id) == 48, "ebrec_stack.stack_id");
_Static_assert(__builtin_offsetof(struct ebrec_stack, kind) == 56, "ebrec_stack.kind");
_Static_assert(__builtin_offsetof(struct ebrec_stack, truncated) == 60, "ebrec_stack.truncated");
_Static_assert(__builtin_offsetof(struct ebrec_stack, depth) == 64, "ebrec_stack.depth");
_Static_assert(__builtin_offsetof(struct ebrec_stack, exec) == 68, "ebrec_stack.exec");
_Static_assert(__builtin_offsetof(struct ebrec_stack, proc) == 72, "ebrec_stack.proc");
_Static_assert(__builtin_offsetof(struct ebrec_stack, pad) == 76, "ebrec_stack.pad");
_Static_assert(sizeof(struct ebrec_stack) == 80, "ebrec_stack");

/* A file or directory that a row of another table names, when it is first used, and again every 30 s as long as it is. The path is that from the root of its mount namespace, as it was then. */
struct ebrec_file_path {
	struct ebrec_head head; /* Task that used it. */
};
/* Followed by the variable-length field file: Number, device and inode, then its names up to the root, each with its NUL. */
_Static_assert(__builtin_offsetof(struct ebrec_file_path, head) == 0, "ebrec_file_path.head");
_Static_assert(sizeof(struct ebrec_file_path) == 48, "ebrec_file_path");

#endif

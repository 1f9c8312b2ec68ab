/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The kernel's types, as far as ebrec looks at them.
 *
 * Written by hand instead of generated from one kernel's BTF: each field is found by name in the running kernel's BTF when the
 * programs are loaded (CO-RE), so only names matter here, not offsets, and a host needs no headers. A type with the suffix
 * ___name is another form of the type before the suffix; core_fixes.h chooses between the forms.
 */
#ifndef EBREC_KERNEL_H
#define EBREC_KERNEL_H
/* Tells bpf_tracing.h that the registers have the names that the kernel uses. */
#define __VMLINUX_H__

typedef unsigned char __u8;
typedef signed short __s16;
typedef unsigned short __u16;
typedef signed int __s32;
typedef unsigned int __u32;
typedef signed long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

enum {
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_F_USER_STACK = 1 << 8,
	BPF_F_USER_BUILD_ID = 1 << 11,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next, *prev;
};

struct file_system_type {
	const char *name;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	struct file_system_type *s_type;
};

typedef struct {
	unsigned int val;
} kuid_t;

struct inode {
	__u16 i_mode;
	kuid_t i_uid;
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_size;
};

struct address_space {
	struct inode *host;
	unsigned long nrpages;
};

struct qstr {
	__u64 hash_len;
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct inode *f_inode;
	struct address_space *f_mapping;
	void *private_data;
	unsigned int f_flags;
	unsigned int f_mode;
	__s64 f_pos;
	struct path f_path;
};

struct fs_struct {
	struct path root, pwd;
};

struct folio {
	struct address_space *mapping;
	unsigned long index;
};

struct vm_area_struct {
	struct file *vm_file;
};

struct vm_fault {
	struct vm_area_struct *vma;
	unsigned long pgoff;
};

struct kiocb {
	__s64 ki_pos;
};

/* The beginning of a struct io_kiocb that reads or writes (io_kiocb_to_cmd). */
struct io_rw {
	struct kiocb kiocb;
	__u32 len;
};

struct io_cqe {
	__s32 res;
};

struct io_kiocb {
	struct file *file;
	__u8 opcode;
	struct io_cqe cqe;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct cred {
	kuid_t uid;
	kuid_t euid;
};

struct mm_struct {
	unsigned long total_vm;
	unsigned long arg_start, arg_end;
};

struct kernel_siginfo {
	int si_code;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
};

enum oom_constraint {
	CONSTRAINT_NONE,
};

struct oom_control {
	struct mem_cgroup *memcg;
	unsigned long totalpages;
	enum oom_constraint constraint;
};

struct irqaction {
	const char *name;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	short oom_score_adj;
	int group_exit_code;
	unsigned int flags;
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct task_io_accounting {
	__u64 syscr;
};

struct pid_namespace {
	unsigned int level;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1]; /* as many as it has levels */
};

struct task_struct {
	unsigned int flags;
	void *stack;
	struct task_io_accounting ioac;
	int exit_code;
	int pid;
	int tgid;
	struct pid *thread_pid;
	__u64 start_boottime;
	__u64 self_exec_id;
	char comm[16];
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct mm_struct *mm;
	const struct cred *cred;
	struct signal_struct *signal;
	struct fs_struct *fs;
	struct files_struct *files;
	struct css_set *cgroups;
	struct nsproxy *nsproxy;
};

struct linux_binprm {
	const char *filename;
	struct file *file;
};

struct pt_regs {
	unsigned long di, si, dx, cx, r10, r8, r9, ax, orig_ax, sp;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_type;
	__u16 sk_protocol;
	int sk_err;
};

struct socket {
	struct sock *sk;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	__u8 icsk_ca_state : 5;
};

struct mptcp_sock {
	struct inet_connection_sock sk;
	struct sock *first;
};

/* Of a connection that the other end asked for, until it is established: it begins like a socket (include/net/request_sock.h). */
struct request_sock {
	struct sock_common __req_common;
};

struct minmax_sample {
	__u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 write_seq;
	__u32 srtt_us;
	__u32 mdev_us;
	struct minmax rtt_min;
	__u32 snd_cwnd;
	__u32 snd_ssthresh;
	__u32 packets_out;
	__u32 sacked_out;
	__u32 lost_out;
	__u32 retrans_out;
	__u32 total_retrans;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_acked;
	__u64 bytes_received;
};

struct net_device {
	possible_net_t nd_net;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned int len;
	unsigned int data_len;
	int skb_iif;
	__be16 protocol;
	__u16 network_header;
	__u16 transport_header;
	unsigned char *head;
	unsigned char *data;
	unsigned long _nfct;
};

union nf_inet_addr {
	__u32 all[4];
};

union nf_conntrack_man_proto {
	__be16 all;
};

struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
};

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			__be16 all;
		} u;
	} dst;
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};

struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
};

struct msghdr;

struct seq_file;

/* What some functions call a packet (include/uapi/linux/bpf.h). */
struct __sk_buff {
	__u32 len;
};

/* Opaque, on the program's stack (include/uapi/linux/bpf.h). */
struct bpf_dynptr {
	__u64 opaque[2];
} __attribute__((aligned(8)));

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

typedef __u32 dev_t; /* include/linux/types.h: 12 bits of major, 20 of minor (MINORBITS) */

struct blk_mq_ops;

struct request_queue {
	const struct blk_mq_ops *mq_ops;
};

struct gendisk {
	int major;
	int first_minor;
	char disk_name[32];
	struct request_queue *queue;
};

struct block_device {
	struct gendisk *bd_disk;
	dev_t bd_dev;
};

struct bvec_iter {
	__u64 bi_sector;
	unsigned int bi_size;
};

struct bio {
	unsigned int bi_opf;
	__u8 bi_status;
	struct bvec_iter bi_iter;
};

struct blk_flush_queue {
	unsigned int flush_running_idx : 1;
	struct list_head flush_queue[2];
};

struct blk_mq_hw_ctx {
	struct blk_flush_queue *fq;
};

struct request {
	struct request_queue *q;
	struct blk_mq_hw_ctx *mq_hctx;
	unsigned int cmd_flags;
	unsigned int __data_len;
	__u64 __sector;
	struct bio *bio;
	struct list_head queuelist;
};

struct bpf_map;

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#pragma clang attribute pop

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */
#define SIGNAL_GROUP_EXIT 0x00000004 /* include/linux/sched/signal.h */
#define TASK_REPORT_MAX 0x100 /* bit above all that task_state_index() reports; set for a preempted task */
#define S_IFMT 0170000
#define S_ISUID 04000
#define S_IFREG 0100000
#define S_IFSOCK 0140000
#define S_IFBLK 0060000
#define TMPFS_MAGIC 0x01021994 /* include/uapi/linux/magic.h */
#if defined(__TARGET_ARCH_arm64)
#define O_DIRECT 0200000 /* arch/arm64/include/uapi/asm/fcntl.h */
#else
#define O_DIRECT 040000 /* include/uapi/asm-generic/fcntl.h */
#endif
#define AT_FDCWD -100
#define AT_REMOVEDIR 0x200 /* include/uapi/linux/fcntl.h */
#define FMODE_CREATED 0x100000 /* include/linux/fs.h */
#define PATH_MAX 4096 /* with the NUL */
#define O_CREAT 0100 /* include/uapi/asm-generic/fcntl.h; the same on x86 and arm64 */
#define O_WRONLY 01
#define O_TRUNC 01000
#define O_APPEND 02000
#define __O_TMPFILE 020000000
#define RWF_APPEND 0x10 /* include/uapi/linux/fs.h */
#define RWF_NOAPPEND 0x20

enum { /* include/uapi/linux/io_uring.h */
       IORING_OP_READV = 1,
       IORING_OP_WRITEV = 2,
       IORING_OP_FSYNC = 3,
       IORING_OP_READ_FIXED = 4,
       IORING_OP_WRITE_FIXED = 5,
       IORING_OP_SYNC_FILE_RANGE = 8,
       IORING_OP_READ = 22,
       IORING_OP_WRITE = 23,
};

enum { /* include/uapi/asm-generic/errno-base.h and errno.h; the same on x86 and arm64 */
       EINTR = 4,
       EFAULT = 14,
       ECONNABORTED = 103,
       EISCONN = 106,
       EALREADY = 114,
       EINPROGRESS = 115,
};
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_FRAGMENT 44
#define IPPROTO_MPTCP 262
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define SOCK_STREAM 1
#define SOCK_DONE 1 /* bit of skc_flags (enum sock_flags): a FIN was received */
#define MSG_PEEK 2
#define MSG_ERRQUEUE 0x2000
#define TCP_CA_RECOVERY 3 /* enum tcp_ca_state */
#define TCP_CA_LOSS 4

enum { /* include/net/tcp_states.h */
       TCP_ESTABLISHED = 1,
       TCP_SYN_SENT,
       TCP_SYN_RECV,
       TCP_FIN_WAIT1,
       TCP_FIN_WAIT2,
       TCP_TIME_WAIT,
       TCP_CLOSE,
       TCP_CLOSE_WAIT,
       TCP_LAST_ACK,
       TCP_LISTEN,
       TCP_CLOSING,
       TCP_NEW_SYN_RECV,
};

#endif

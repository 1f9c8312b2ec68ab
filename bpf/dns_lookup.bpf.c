/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Calls of the C libraries' resolver functions. */
#include "pid_ns.h"

FEEDS(dns__lookup, "dns_lookup");
FEEDS(dns__image, "dns_lookup");
FEEDS(dns__thread_exit, "dns_lookup");
NEEDS(dns__image, "lookup");
NEEDS(dns__thread_exit, "lookup");
NEEDS(dns__open_lookups, "lookup");

#define LOOKUP_HOST_MAX 256
#define LOOKUP_SERVICE_MAX 32
#define LOOKUP_NO_TEXT 0xffff
#define LOOKUP_NO_RESULT (-2147483647 - 1)
#define LOOKUP_NETDB_INTERNAL 1000

/* In the order of LOOKUP_FUNCTIONS in format/src/kind/words.rs. */
enum lookup_function {
	LOOKUP_GETADDRINFO,
	LOOKUP_GETHOSTBYNAME,
	LOOKUP_GETHOSTBYNAME2,
	LOOKUP_GETHOSTBYNAME_R,
	LOOKUP_GETHOSTBYNAME2_R,
};

/* The tail of a record: kind LookupNames. */
struct lookup_names {
	__u16 host_len;
	__u16 service_len;
	char text[LOOKUP_HOST_MAX + LOOKUP_SERVICE_MAX]; /* the service behind the host */
};

/* A call that has not returned. */
struct lookup {
	struct ebrec_task task;
	__u64 called_at;
	__u64 sp; /* the stack pointer at entry: a call within the call has a lower one */
	__u64 host; /* what the caller handed over, in its memory */
	__u64 service;
	__u64 result; /* where gethostbyname_r puts its result, and why it has none; 0: elsewhere */
	__u64 h_errno;
	__u32 function;
	__u32 pad;
	struct lookup_names names;
};

/* Calls by their thread's id. Entries leave when the call returns or the thread ends. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct lookup);
} lookups SEC(".maps");

/* A fresh entry of it, too large for the stack; only read. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lookup);
} lookup_fresh SEC(".maps");

#if defined(__TARGET_ARCH_x86)
/* A return takes the return address off the stack. */
#define SP_AFTER_RETURN(sp) ((sp) + 8)
#else
#define SP_AFTER_RETURN(sp) (sp)
#endif

static __always_inline __u16 read_text(char *to, __u32 size, __u64 from)
{
	long len = from ? bpf_probe_read_user_str(to, size, (void *)from) : -1;

	/* With the NUL. */
	return len < 1 ? LOOKUP_NO_TEXT : len - 1;
}

static __always_inline void read_names(struct lookup *lookup)
{
	struct lookup_names *names = &lookup->names;
	__u32 at;

	names->host_len = read_text(names->text, LOOKUP_HOST_MAX, lookup->host);
	at = names->host_len == LOOKUP_NO_TEXT ? 0 : names->host_len & (LOOKUP_HOST_MAX - 1);
	barrier_var(at);
	names->service_len = read_text(names->text + at, LOOKUP_SERVICE_MAX, lookup->service);
}

static __always_inline __u32 names_size(const struct lookup_names *names)
{
	__u32 host = names->host_len == LOOKUP_NO_TEXT ? 0 : names->host_len;
	__u32 service = names->service_len == LOOKUP_NO_TEXT ? 0 : names->service_len;

	return __builtin_offsetof(struct lookup_names, text) + host + service;
}

struct lookup_record {
	struct ebrec_dns_lookup lookup;
	struct lookup_names names;
};

static __always_inline void put_lookup(struct lookup_record *record, const struct lookup *lookup, __u64 latency, __s32 result)
{
	record->lookup.head.size = sizeof(record->lookup) + names_size(&lookup->names);
	record->lookup.head.task = lookup->task;
	record->lookup.latency_ns = latency;
	record->lookup.result = result;
	record->lookup.function = lookup->function;
	__builtin_memcpy(&record->names, &lookup->names, sizeof(record->names));
}

static __always_inline void emit_lookup(const struct lookup *lookup, __u64 latency, __s32 result)
{
	struct lookup_record *record = reserve(EBREC_DNS_LOOKUP, sizeof(*record), lookup->called_at);

	if (!record)
		return;
	put_lookup(record, lookup, latency, result);
	submit(record);
}

static __always_inline int lookup_begins(struct pt_regs *regs, __u32 function, __u64 host, __u64 service, __u64 result,
					 __u64 h_errno)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid(), zero = 0;
	__u64 sp = PT_REGS_SP(regs);
	struct lookup *lookup, *fresh;
	struct ebrec_task task;

	if (window_is_over() || !wanted_current(&task))
		return 0;
	lookup = bpf_map_lookup_elem(&lookups, &tid);
	if (lookup) {
		/* A call within the call, which is the user's: glibc's and musl's gethostbyname call their gethostbyname_r, and may
		 * do so by a jump. What that is given tells where the error will be. */
		if (sp < lookup->sp || (sp == lookup->sp && function != lookup->function)) {
			if (!lookup->h_errno)
				lookup->h_errno = h_errno;
			return 0;
		}
		/* It can't be within a frame that is gone: longjmp left that call. The same place again is most likely this very
		 * call, seen twice, because two paths to the library looked like two libraries. */
		if (sp > lookup->sp)
			emit_lookup(lookup, EBREC_NULL64, LOOKUP_NO_RESULT);
	} else {
		fresh = bpf_map_lookup_elem(&lookup_fresh, &zero);
		if (!fresh)
			return 0;
		bpf_map_update_elem(&lookups, &tid, fresh, BPF_NOEXIST);
		lookup = bpf_map_lookup_elem(&lookups, &tid);
		if (!lookup) {
			count_full(EBREC_DNS_LOOKUP);
			return 0;
		}
	}
	lookup->task = task;
	lookup->called_at = bpf_ktime_get_boot_ns();
	lookup->sp = sp;
	lookup->host = host;
	lookup->service = service;
	lookup->result = result;
	lookup->h_errno = h_errno;
	lookup->function = function;
	read_names(lookup);
	return 0;
}

static __always_inline __s32 result_of(const struct lookup *lookup, __u64 returned)
{
	__u64 found = returned;
	int error = 0;

	if (lookup->function == LOOKUP_GETADDRINFO)
		return (__s32)returned;
	if (lookup->result && bpf_probe_read_user(&found, sizeof(found), (void *)lookup->result))
		return LOOKUP_NO_RESULT;
	if (found)
		return 0;
	if (!lookup->h_errno || bpf_probe_read_user(&error, sizeof(error), (void *)lookup->h_errno) || !error)
		return LOOKUP_NO_RESULT;
	/* NETDB_INTERNAL, see errno: the caller's buffer is too small, for example. */
	return error < 0 ? LOOKUP_NETDB_INTERNAL : error;
}

static __always_inline int lookup_ends(struct pt_regs *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct lookup *lookup = bpf_map_lookup_elem(&lookups, &tid);

	/* The return of a call within the call leaves the stack lower. */
	if (!lookup || PT_REGS_SP(ctx) < SP_AFTER_RETURN(lookup->sp) || window_is_over())
		return 0;
	/* What could not be read at first, for its page was not there yet, can be now: the function has used it. */
	if (lookup->host && lookup->names.host_len == LOOKUP_NO_TEXT)
		read_names(lookup);
	emit_lookup(lookup, bpf_ktime_get_boot_ns() - lookup->called_at, result_of(lookup, PT_REGS_RC(ctx)));
	bpf_map_delete_elem(&lookups, &tid);
	return 0;
}

/* The seventh argument. */
static __always_inline __u64 seventh_of(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)PT_REGS_SP(ctx) + 8);
	return value;
#else
	return PT_REGS_PARM7(ctx);
#endif
}

/* Since 6.6 one link puts a program into many functions; it is told which one by a number, the place in LOOKUP_FUNCTIONS. Taking
 * two links out takes as long as two of the ten that the other way needs. */
SEC("?uprobe.multi")
int BPF_KPROBE(dns__lookup__uprobe_multi__entry, __u64 name, __u64 service)
{
	__u64 function = bpf_get_attach_cookie(ctx);

	if (function == LOOKUP_GETADDRINFO)
		return lookup_begins(ctx, LOOKUP_GETADDRINFO, name, service, 0, 0);
	if (function == LOOKUP_GETHOSTBYNAME_R)
		return lookup_begins(ctx, LOOKUP_GETHOSTBYNAME_R, name, 0, PT_REGS_PARM5(ctx), PT_REGS_PARM6(ctx));
	if (function == LOOKUP_GETHOSTBYNAME2_R)
		return lookup_begins(ctx, LOOKUP_GETHOSTBYNAME2_R, name, 0, PT_REGS_PARM6(ctx), seventh_of(ctx));
	return lookup_begins(ctx, function, name, 0, 0, 0);
}

SEC("?uprobe.multi")
int BPF_KPROBE(dns__lookup__uprobe_multi__return)
{
	return lookup_ends(ctx);
}

SEC("?uprobe")
int BPF_KPROBE(dns__lookup__uprobe__getaddrinfo, __u64 node, __u64 service)
{
	return lookup_begins(ctx, LOOKUP_GETADDRINFO, node, service, 0, 0);
}

SEC("?uprobe")
int BPF_KPROBE(dns__lookup__uprobe__gethostbyname, __u64 name)
{
	return lookup_begins(ctx, LOOKUP_GETHOSTBYNAME, name, 0, 0, 0);
}

SEC("?uprobe")
int BPF_KPROBE(dns__lookup__uprobe__gethostbyname2, __u64 name)
{
	return lookup_begins(ctx, LOOKUP_GETHOSTBYNAME2, name, 0, 0, 0);
}

SEC("?uprobe")
int BPF_KPROBE(dns__lookup__uprobe__gethostbyname_r, __u64 name, __u64 ret, __u64 buf, __u64 buflen, __u64 result)
{
	return lookup_begins(ctx, LOOKUP_GETHOSTBYNAME_R, name, 0, result, PT_REGS_PARM6(ctx));
}

SEC("?uprobe")
int BPF_KPROBE(dns__lookup__uprobe__gethostbyname2_r, __u64 name)
{
	return lookup_begins(ctx, LOOKUP_GETHOSTBYNAME2_R, name, 0, PT_REGS_PARM6(ctx), seventh_of(ctx));
}

/* The return of each of them. */
SEC("?uretprobe")
int BPF_KPROBE(dns__lookup__uprobe__return)
{
	return lookup_ends(ctx);
}

/* A thread that ends in the middle of a lookup. */
SEC("?tp_btf/sched_process_exit")
int BPF_PROG(dns__thread_exit__tp_btf, struct task_struct *task)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct lookup *lookup = bpf_map_lookup_elem(&lookups, &tid);

	if (!lookup || window_is_over())
		return 0;
	emit_lookup(lookup, EBREC_NULL64, LOOKUP_NO_RESULT);
	bpf_map_delete_elem(&lookups, &tid);
	return 0;
}

/* The lookups that have not returned at the end. */
SEC("?iter/bpf_map_elem")
int dns__open_lookups__iter_end__lookups(struct bpf_iter__bpf_map_elem *ctx)
{
	struct lookup *lookup = ctx->value;
	struct lookup_record record = {};

	if (!lookup || !in_window(lookup->called_at))
		return 0;
	put_lookup(&record, lookup, EBREC_NULL64, LOOKUP_NO_RESULT);
	record.lookup.head.ts = lookup->called_at;
	record.lookup.head.cpu = bpf_get_smp_processor_id();
	record.lookup.head.table = EBREC_DNS_LOOKUP;
	__u32 size = record.lookup.head.size;
	if (size <= sizeof(record))
		put_row(ctx->meta, &record, size);
	return 0;
}

/* A program file as one sees it in a mount namespace: which libraries it gets is always the same. */
struct image {
	__u64 inode;
	__u32 dev;
	__u32 mnt_ns;
};

struct image_started {
	struct image image;
	__u32 pid;
	__u32 proc; /* its pid in /proc; 0: it isn't there */
};

/* When the recorder last looked at what a process of this image maps, ns of CLOCK_BOOTTIME; set by it. One that is forgotten is
 * looked at again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct image);
	__type(value, __u64);
} images_seen SEC(".maps");

/* Images that it should look at. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16384);
} images_started SEC(".maps");

/* A library may be replaced. */
#define IMAGE_SEEN_NS 10000000000ULL

/* A program that may bring a library that no probe is in yet. It wakes the recorder at once, because the first lookup may come in
 * a millisecond; that is dear, but is done once per image. */
SEC("?tp_btf/sched_process_exec")
int BPF_PROG(dns__image__tp_btf, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct inode *inode = bprm->file->f_inode;
	struct image_started started = {
	    .image = {.inode = inode->i_ino, .dev = inode->i_sb->s_dev, .mnt_ns = task->nsproxy->mnt_ns->ns.inum},
	    .pid = task->tgid,
	    .proc = pid_in_proc(task),
	};
	__u64 *seen = bpf_map_lookup_elem(&images_seen, &started.image);

	if (seen && bpf_ktime_get_boot_ns() - *seen < IMAGE_SEEN_NS)
		return 0;
	if (bpf_ringbuf_output(&images_started, &started, sizeof(started), BPF_RB_FORCE_WAKEUP))
		count_drop(EBREC_DNS_LOOKUP, DROP_NOT_LOOKED_AT);
	return 0;
}

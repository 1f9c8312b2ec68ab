/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The page cache, summed in the kernel by process and interval: a row per page would cost more than the page. */
#include "syscalls.h"

#define PAGE_CACHE_INTERVAL_NS 100000000ULL
#define PAGE_CACHE_SLOTS 64 /* processes that a CPU sums up at the same time; a power of two */

/* Binary logarithm of the page size. */
const volatile __u32 page_shift = 12;

/* What a process did on a CPU in an interval. */
struct pc_sums {
	struct ebrec_task task; /* the first that did something */
	__u64 interval; /* number of it since boot */
	__u32 accesses;
	__u32 misses;
	__u32 readahead;
	__u32 fault_misses;
	__u32 added;
	__u32 dirtied;
};

/* By CPU and the pid's lower bits: each is only changed on its own CPU, and told when the next process or interval needs the place.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct pc_sums);
} pc_sums SEC(".maps");

/* Pages of a file. */
struct pc_range {
	__u64 mapping;
	__u64 first;
	__u64 last;
};

struct pc_task {
	__u64 reads; /* calls of the task before the one that `asked` is of */
	struct pc_range asked; /* by its read call */
	struct pc_range seen; /* that were looked up last */
	__u64 seen_reads;
	__u64 fault_mapping; /* of the last page fault */
	__u64 fault_page;
};

/* Without task storage (before 5.11), a read call is looked at again for every page that it adds. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pc_task);
} pc_tasks SEC(".maps");

/* Faults by tid where there is no task storage. An entry is used in the very fault that made it: that those of tasks which have had
 * none for longest are forgotten costs nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct pc_task);
} pc_tid_tasks SEC(".maps");

/* Whether reads, and page faults, are seen on this kernel at all. */
__u32 pc_sees_accesses = 0;
__u32 pc_sees_faults = 0;

static __always_inline struct pc_task *pc_task_of_current(void)
{
	struct pc_task *known, fresh = {};
	__u32 tid;

	if (has_task_storage())
		return bpf_task_storage_get(&pc_tasks, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	tid = bpf_get_current_pid_tgid();
	known = bpf_map_lookup_elem(&pc_tid_tasks, &tid);
	if (known)
		return known;
	bpf_map_update_elem(&pc_tid_tasks, &tid, &fresh, BPF_ANY);
	return bpf_map_lookup_elem(&pc_tid_tasks, &tid);
}

#define PUT_PAGE_CACHE(row, sums)                                                           \
	do {                                                                                \
		(row)->head.task = (sums)->task;                                            \
		(row)->interval_ns = PAGE_CACHE_INTERVAL_NS;                                \
		(row)->accesses = pc_sees_accesses ? (sums)->accesses : EBREC_NULL32;       \
		(row)->misses = (sums)->misses;                                             \
		(row)->readahead = (sums)->readahead;                                       \
		(row)->fault_misses = pc_sees_faults ? (sums)->fault_misses : EBREC_NULL32; \
		(row)->added = (sums)->added;                                               \
		(row)->dirtied = (sums)->dirtied;                                           \
	} while (0)

/* Where to add what the current task does; NULL if it isn't wanted. */
static __always_inline struct pc_sums *pc_sums_of_current(void)
{
	__u64 now = bpf_ktime_get_boot_ns(), interval = now / PAGE_CACHE_INTERVAL_NS;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u32 key = bpf_get_smp_processor_id() * PAGE_CACHE_SLOTS + (pid & (PAGE_CACHE_SLOTS - 1));
	struct pc_sums *sums = bpf_map_lookup_elem(&pc_sums, &key);
	struct pc_sums fresh = {.interval = interval};
	struct ebrec_page_cache *row;

	if (!in_window(now))
		return NULL;
	if (sums && sums->task.pid == pid && sums->interval == interval && !is_filtered())
		return sums;
	if (!wanted_current(&fresh.task))
		return NULL;
	if (sums && sums->task.pid == pid && sums->interval == interval)
		return sums;
	if (sums) {
		row = RECORD(page_cache, PAGE_CACHE, begin_in_window(sums->interval * PAGE_CACHE_INTERVAL_NS));
		if (row) {
			PUT_PAGE_CACHE(row, sums);
			submit(row);
		}
		*sums = fresh;
		return sums;
	}
	if (bpf_map_update_elem(&pc_sums, &key, &fresh, BPF_NOEXIST))
		count_full(EBREC_PAGE_CACHE);
	return bpf_map_lookup_elem(&pc_sums, &key);
}

/* Read calls of the current task so far; the kernel counts one when it ends (inc_syscr), so it tells calls apart. */
static __always_inline __u64 pc_reads_of_current(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return bpf_core_field_exists(task->ioac.syscr) ? BPF_CORE_READ(task, ioac.syscr) : EBREC_NULL64;
}

/* A call that reads a file into memory or a socket: from which, and how much from where on. FALSE if it is none. AFTER its end it
 * is known how much it was, and the file's position has moved. */
static __always_inline bool pc_read_call(struct pt_regs *regs, long nr, bool after, long ret, struct pc_range *range)
{
	__u64 fd = nr == NR_SENDFILE ? PROBED_ARG(regs, 2) : PROBED_ARG(regs, 1);
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 pos, count = 0, at, iov[2];
	__u16 mode;
	struct file **files, *file;
	struct inode *inode;

	if (nr != NR_READ && nr != NR_PREAD64 && nr != NR_READV && nr != NR_PREADV && nr != NR_PREADV2 && nr != NR_SENDFILE)
		return false;
	if (fd >= BPF_CORE_READ(task, files, fdt, max_fds))
		return false;
	files = BPF_CORE_READ(task, files, fdt, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), files + fd) || !file)
		return false;
	inode = BPF_CORE_READ(file, f_inode);
	mode = BPF_CORE_READ(inode, i_mode) & S_IFMT;
	if ((mode != S_IFREG && mode != S_IFBLK) || BPF_CORE_READ(file, f_flags) & O_DIRECT)
		return false;
	pos = BPF_CORE_READ(file, f_pos);
	if (after) {
		count = ret;
	} else if (nr == NR_READ || nr == NR_PREAD64) {
		count = PROBED_ARG(regs, 3);
	} else if (nr == NR_SENDFILE) {
		count = PROBED_ARG(regs, 4);
	} else {
		at = PROBED_ARG(regs, 2);
		/* More than 16 buffers: all that the first 16 take. */
		for (__u32 i = 0; i < 16; i++) {
			if (i >= PROBED_ARG(regs, 3) || bpf_probe_read_user(iov, sizeof(iov), (void *)(at + i * sizeof(iov))))
				break;
			count += iov[1];
		}
	}
	if (nr == NR_PREAD64 || nr == NR_PREADV || (nr == NR_PREADV2 && PROBED_ARG(regs, 4) != (__u64)-1)) {
		pos = PROBED_ARG(regs, 4);
	} else if (nr == NR_SENDFILE && PROBED_ARG(regs, 3)) {
		if (bpf_probe_read_user(&pos, sizeof(pos), (void *)PROBED_ARG(regs, 3)))
			return false;
		pos -= after ? count : 0;
	} else if (after) {
		pos -= count;
	}
	if (!count)
		return false;
	range->mapping = (__u64)BPF_CORE_READ(file, f_mapping);
	range->first = pos >> page_shift;
	range->last = (pos + count - 1) >> page_shift;
	return true;
}

/* How many of N pages from FIRST on are in the range. */
static __always_inline __u32 pc_pages_in(const struct pc_range *range, __u64 first, __u32 n)
{
	__u64 from = first > range->first ? first : range->first;
	__u64 to = first + n - 1 < range->last ? first + n - 1 : range->last;

	return to >= from ? to - from + 1 : 0;
}

/* The pages of MAPPING that the current task's read call asks for; false if it reads no or another file. READS are its calls so
 * far. */
static __always_inline bool pc_asked(struct pc_task *task, __u64 reads, __u64 mapping, struct pc_range *range)
{
	struct pt_regs *regs;

	if (has_task_storage() && reads != EBREC_NULL64 && task->asked.mapping == mapping && task->reads == reads) {
		*range = task->asked;
		return true;
	}
	regs = current_regs();
	if (!pc_read_call(regs, PROBED_NR(regs), false, 0, range) || range->mapping != mapping)
		return false;
	task->asked = *range;
	task->reads = reads;
	return true;
}

/* Pages that were added to the cache: those that the task's own call or fault asks for are misses, others that come along with them
 * are readahead. What is added to be written, or in other ways (io_uring, exec), is neither. */
static __always_inline int on_page_added(__u64 mapping, __u64 first, __u32 n)
{
	struct pc_sums *sums = pc_sums_of_current();
	struct pc_range range = {};
	struct pt_regs *regs;
	struct pc_task *task;
	__u32 asked;
	__u64 reads;
	long nr;

	if (!sums)
		return 0;
	sums->added += n;
	regs = current_regs();
	nr = PROBED_NR(regs);
	task = pc_task_of_current();
	if (!task)
		return 0;
	reads = pc_reads_of_current();
	if (nr == NR_READAHEAD || nr == NR_FADVISE64 || nr == NR_MADVISE) {
		sums->readahead += n;
		return 0;
	}
	if (pc_asked(task, reads, mapping, &range)) {
		asked = pc_pages_in(&range, first, n);
		sums->misses += asked;
		sums->readahead += n - asked;
	} else if (task->fault_mapping == mapping) {
		range.first = task->fault_page;
		range.last = task->fault_page;
		asked = pc_pages_in(&range, first, n);
		sums->fault_misses += asked;
		sums->readahead += n - asked;
	}
	return 0;
}

TWICE(page_cache__added);
ON_TP_TWICE(page_cache__added, tp_btf, spare_preempted, "mm_filemap_add_to_page_cache",
	    on_page_added(folio_mapping(folio), folio_index(folio), folio_pages(folio)), struct folio *folio)

static __always_inline int on_page_dirtied(struct folio *folio)
{
	struct pc_sums *sums = pc_sums_of_current();

	if (sums)
		sums->dirtied += folio_pages(folio);
	return 0;
}

TWICE(page_cache__dirtied);
ON_TP_TWICE(page_cache__dirtied, tp_btf, spare_preempted, "writeback_dirty_folio", on_page_dirtied(folio), struct folio *folio,
	    struct address_space *mapping)

/* Its name before 5.18 (203a31516616 "mm/writeback: Add __folio_mark_dirty()" and its followers). */
SEC("?tp_btf/writeback_dirty_page")
int BPF_PROG(page_cache__dirtied__tp_btf_2args, struct folio *page, struct address_space *mapping)
{
	return on_page_dirtied(page);
}

/* From which page on a lookup of FIRST to LAST has not been counted yet; behind LAST if all of it has. As a read gets its pages in
 * batches, it asks again for the rest of them. A batch that ends with a page whose I/O isn't done yet is not told
 * (filemap_get_pages returns the pages before that one), but what follows it is: so pages before FIRST that the call asks for were
 * looked up, too. */
static __always_inline __u64 pc_uncounted(struct pc_task *task, __u64 reads, __u64 mapping, __u64 first, __u64 last)
{
	bool same_call = task->seen.mapping == mapping && task->seen_reads == reads;
	struct pc_range asked = {};

	if (same_call && task->seen.last == last && task->seen.first < first)
		return last + 1;
	if (!first || reads == EBREC_NULL64 || !pc_asked(task, reads, mapping, &asked) || first < asked.first || first > asked.last)
		return first;
	/* A call may look up its pages in parts (sendfile). */
	if (same_call && task->seen.last >= asked.first)
		return task->seen.last < first ? task->seen.last + 1 : first;
	return asked.first;
}

/* Since 6.10: a read has looked up pages. */
static __always_inline int on_pages_read(struct address_space *mapping, unsigned long first, unsigned long last)
{
	struct pc_sums *sums = pc_sums_of_current();
	struct pc_task *task = sums ? pc_task_of_current() : NULL;
	__u64 size, reads, from;

	pc_sees_accesses = 1;
	if (!task)
		return 0;
	reads = pc_reads_of_current();
	from = pc_uncounted(task, reads, (__u64)mapping, first, last);
	task->seen.mapping = (__u64)mapping;
	task->seen.first = first;
	task->seen.last = last;
	task->seen_reads = reads;
	if (from > last)
		return 0;
	/* Nothing is behind the end of the file, however much was asked for. */
	size = mapping->host->i_size;
	if (last > (size - 1) >> page_shift)
		last = (size - 1) >> page_shift;
	if (size && last >= from)
		sums->accesses += last - from + 1;
	return 0;
}

TWICE(page_cache__accesses);
ON_TP_TWICE(page_cache__accesses, tp_btf, spare_preempted, "mm_filemap_get_pages", on_pages_read(mapping, first, last),
	    struct address_space *mapping, unsigned long first, unsigned long last)

/* A file of tmpfs is its pages; one of proc or sysfs has none. */
static __always_inline bool is_in_page_cache(struct address_space *mapping)
{
	return BPF_CORE_READ(mapping, nrpages) && BPF_CORE_READ(mapping, host, i_sb, s_magic) != TMPFS_MAGIC;
}

/* Before: what calls have read. */
ON_SYS_EXIT(page_cache__accesses, UNTIMED, NR_READ, NR_PREAD64, NR_READV, NR_PREADV, NR_PREADV2, NR_SENDFILE)
{
	struct pc_range range = {};
	struct pc_sums *sums;

	pc_sees_accesses = 1;
	if (ret <= 0 || !pc_read_call(regs, nr, true, ret, &range) || !is_in_page_cache((void *)range.mapping))
		return 0;
	sums = pc_sums_of_current();
	if (sums)
		sums->accesses += range.last - range.first + 1;
	return 0;
}

static __always_inline int on_fault(__u64 mapping, __u64 page)
{
	struct pc_task *task = pc_task_of_current();

	pc_sees_faults = 1;
	if (task) {
		task->fault_mapping = mapping;
		task->fault_page = page;
	}
	return 0;
}

/* Since 6.10. */
TWICE(page_cache__faults);
ON_TP_TWICE(page_cache__faults, tp_btf, spare_preempted, "mm_filemap_fault", on_fault((__u64)mapping, page),
	    struct address_space *mapping, unsigned long page)

SEC("?fentry/filemap_fault")
int BPF_PROG(page_cache__faults__fentry, struct vm_fault *fault)
{
	return on_fault((__u64)fault->vma->vm_file->f_mapping, fault->pgoff);
}

SEC("?kprobe/filemap_fault")
int BPF_KPROBE(page_cache__faults__kprobe, struct vm_fault *fault)
{
	return on_fault((__u64)BPF_CORE_READ(fault, vma, vm_file, f_mapping), BPF_CORE_READ(fault, pgoff));
}

/* What has been summed and not told yet. */
SEC("?iter/bpf_map_elem")
int page_cache__rest__iter_end__pc_sums(struct bpf_iter__bpf_map_elem *ctx)
{
	struct pc_sums *sums = ctx->value;
	struct ebrec_page_cache row = {};
	__u32 *key = ctx->key;

	if (!sums || !key)
		return 0;
	row.head.ts = begin_in_window(sums->interval * PAGE_CACHE_INTERVAL_NS);
	row.head.size = sizeof(row);
	row.head.cpu = *key / PAGE_CACHE_SLOTS;
	row.head.table = EBREC_PAGE_CACHE;
	PUT_PAGE_CACHE(&row, sums);
	put_row(ctx->meta, &row, sizeof(row));
	return 0;
}

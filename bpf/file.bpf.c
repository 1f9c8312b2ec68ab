/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Reads, writes and the like on regular files.
 *
 * Seen as system calls, everywhere: each is counted once, whatever file systems it goes through (on overlayfs, for the file that
 * the program opened), and its name and arguments are known. */
#include "files.h"

/* What a call did; the words of kind FileOp. */
enum file_op {
	FILE_READ = 1,
	FILE_WRITE,
	FILE_OPEN,
	FILE_SYNC,
	FILE_TRUNCATE,
};

/* Which call it was; the words of kind FileOp. */
enum file_call {
	CALL_READ = 1,
	CALL_WRITE,
	CALL_PREAD64,
	CALL_PWRITE64,
	CALL_READV,
	CALL_WRITEV,
	CALL_PREADV,
	CALL_PWRITEV,
	CALL_PREADV2,
	CALL_PWRITEV2,
	CALL_SENDFILE,
	CALL_COPY_FILE_RANGE,
	CALL_SPLICE,
	CALL_OPEN,
	CALL_CREAT,
	CALL_OPENAT,
	CALL_OPENAT2,
	CALL_FSYNC,
	CALL_FDATASYNC,
	CALL_SYNC_FILE_RANGE,
	CALL_TRUNCATE,
	CALL_FTRUNCATE,
	CALL_IO_URING,
};

#define FILE_OP(op, call) ((op) << 16 | (call))

/* What a row says of a call, but for the file. */
struct file_call_info {
	__u64 entered;
	__u64 offset;
	__u64 requested;
	long ret;
	__u32 op;
	struct ebrec_task task;
};

static __always_inline bool is_regular(struct file *file)
{
	return file && (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFREG;
}

/* The call that ends now, on a file whose number is ID. */
static __always_inline int emit_file_io(struct file_call_info *call, __u64 id, __u64 now)
{
	struct ebrec_file_io *event = RECORD(file_io, FILE_IO, call_began(call->entered, now));
	__u32 op = call->op >> 16;

	if (!event)
		return 0;
	event->head.task = call->task;
	event->op = call->op;
	event->errno = errno_of(call->ret);
	event->file = id;
	event->offset = call->offset;
	event->requested_bytes = call->requested;
	event->bytes = op != FILE_READ && op != FILE_WRITE ? EBREC_NULL64 : call->ret > 0 ? call->ret : 0;
	event->latency_ns = call_took(call->entered, now);
	submit(event);
	return 0;
}

static __always_inline int on_file_call(struct file_call_info *call, struct file *file)
{
	__u64 now = bpf_ktime_get_boot_ns();

	return emit_file_io(call, file_id_of(file, now), now);
}

/* Where a call that moves the file's position began: it has moved by what was done. */
static __always_inline __u64 position_before(struct file *file, long ret)
{
	__u64 now = BPF_CORE_READ(file, f_pos);

	return ret > 0 ? now - ret : now;
}

/* Sum of the lengths of the pieces of a vector. A function of its own, verified once. */
__noinline __u64 file_vector_bytes(__u64 vector, __u64 count)
{
	struct {
		__u64 base, len;
	} pieces[4];
	__u64 sum = 0;
	__u32 at;

	/* The kernel takes at most 1024 (UIO_MAXIOV of include/uapi/linux/uio.h). */
	if (count > 1024)
		return EBREC_NULL64;
	/* Four at a time, and what is left one by one. */
	for (at = 0; at < 1024; at += 4) {
		if (at + 4 > count)
			break;
		if (bpf_probe_read_user(pieces, sizeof(pieces), (void *)(vector + at * sizeof(*pieces))))
			return EBREC_NULL64;
		sum += pieces[0].len + pieces[1].len + pieces[2].len + pieces[3].len;
	}
	at = opaque(at);
	for (int i = 0; i < 3; i++) {
		if (at >= count)
			break;
		if (bpf_probe_read_user(pieces, sizeof(*pieces), (void *)(vector + at * sizeof(*pieces))))
			return EBREC_NULL64;
		sum += pieces[0].len;
		at++;
	}
	return sum;
}

/* read and write, the most frequent of all: a handler of their own, which does little for sockets and pipes. */
ON_SYS_EXIT(file__calls, TIMED, NR_READ, NR_WRITE, NR_PREAD64, NR_PWRITE64)
{
	struct file *file = file_of_fd(syscall_arg(regs, 1));
	struct file_call_info call = {.entered = entered, .ret = ret};

	if (!is_regular(file) || !wanted_current(&call.task))
		return 0;
	call.requested = syscall_arg(regs, 3);
	call.offset = syscall_arg(regs, 4);
	switch (nr) {
	case NR_READ:
		call.op = FILE_OP(FILE_READ, CALL_READ);
		call.offset = position_before(file, ret);
		break;
	case NR_WRITE:
		call.op = FILE_OP(FILE_WRITE, CALL_WRITE);
		call.offset = position_before(file, ret);
		break;
	case NR_PREAD64:
		call.op = FILE_OP(FILE_READ, CALL_PREAD64);
		break;
	default:
		call.op = FILE_OP(FILE_WRITE, CALL_PWRITE64);
		/* pwrite(2), bugs: appends, wherever it is told to write. Where the end was isn't visible from here. */
		if (BPF_CORE_READ(file, f_flags) & O_APPEND)
			call.offset = EBREC_NULL64;
	}
	return on_file_call(&call, file);
}

ON_SYS_EXIT(file__vectors, TIMED, NR_READV, NR_WRITEV, NR_PREADV, NR_PWRITEV, NR_PREADV2, NR_PWRITEV2)
{
	struct file *file = file_of_fd(syscall_arg(regs, 1));
	struct file_call_info call = {.entered = entered, .ret = ret};
	bool writes = nr == NR_WRITEV || nr == NR_PWRITEV || nr == NR_PWRITEV2;
	bool at_position = nr == NR_READV || nr == NR_WRITEV;
	__u64 append = 0;

	if (!is_regular(file) || !wanted_current(&call.task))
		return 0;
	if (writes)
		call.op = FILE_OP(FILE_WRITE, nr == NR_WRITEV ? CALL_WRITEV : nr == NR_PWRITEV ? CALL_PWRITEV : CALL_PWRITEV2);
	else
		call.op = FILE_OP(FILE_READ, nr == NR_READV ? CALL_READV : nr == NR_PREADV ? CALL_PREADV : CALL_PREADV2);
	call.requested = file_vector_bytes(syscall_arg(regs, 2), syscall_arg(regs, 3));
	call.offset = syscall_arg(regs, 4);
	/* preadv2(2): -1 stands for the file's position. */
	if (at_position || ((nr == NR_PREADV2 || nr == NR_PWRITEV2) && call.offset == (__u64)-1)) {
		call.offset = position_before(file, ret);
	} else if (writes) {
		append = BPF_CORE_READ(file, f_flags) & O_APPEND;
		if (nr == NR_PWRITEV2)
			append = (append && !(syscall_arg(regs, 6) & RWF_NOAPPEND)) || syscall_arg(regs, 6) & RWF_APPEND;
		if (append)
			call.offset = EBREC_NULL64;
	}
	return on_file_call(&call, file);
}

/* Opens are an operation on the file, too; the table file_open has those that fail. */
ON_SYS_EXIT(file__opens, TIMED, OPEN_CALLS)
{
	struct file_call_info call = {.entered = entered, .ret = ret, .offset = EBREC_NULL64, .requested = EBREC_NULL64};
	struct file *file = ret >= 0 ? file_of_fd(ret) : NULL;

	if (!is_regular(file) || !wanted_current(&call.task))
		return 0;
	call.op = FILE_OP(FILE_OPEN, nr == NR_OPENAT ? CALL_OPENAT : nr == NR_OPENAT2 ? CALL_OPENAT2 : CALL_OPEN);
#if defined(__TARGET_ARCH_x86)
	if (nr == NR_CREAT)
		call.op = FILE_OP(FILE_OPEN, CALL_CREAT);
#endif
	return on_file_call(&call, file);
}

ON_SYS_EXIT(file__syncs, TIMED, NR_FSYNC, NR_FDATASYNC, NR_SYNC_FILE_RANGE, NR_FTRUNCATE)
{
	struct file_call_info call = {.entered = entered, .ret = ret, .offset = EBREC_NULL64, .requested = EBREC_NULL64};
	struct file *file = file_of_fd(syscall_arg(regs, 1));

	if (!is_regular(file) || !wanted_current(&call.task))
		return 0;
	if (nr == NR_FSYNC) {
		call.op = FILE_OP(FILE_SYNC, CALL_FSYNC);
	} else if (nr == NR_FDATASYNC) {
		call.op = FILE_OP(FILE_SYNC, CALL_FDATASYNC);
	} else if (nr == NR_SYNC_FILE_RANGE) {
		call.op = FILE_OP(FILE_SYNC, CALL_SYNC_FILE_RANGE);
		call.offset = syscall_arg(regs, 2);
		call.requested = syscall_arg(regs, 3);
	} else {
		call.op = FILE_OP(FILE_TRUNCATE, CALL_FTRUNCATE);
		call.offset = syscall_arg(regs, 2);
	}
	return on_file_call(&call, file);
}

/* Where an end of a copy began: where its argument says, which the kernel has moved on by what was done, else at the position. */
static __always_inline __u64 copy_offset(struct file *file, unsigned long at, long ret)
{
	__u64 now;

	if (!at)
		return position_before(file, ret);
	if (bpf_probe_read_user(&now, sizeof(now), (void *)at))
		return EBREC_NULL64;
	return ret > 0 ? now - ret : now;
}

/* Calls between two files: a read of the one and a write of the other, of each that is a regular file. */
ON_SYS_EXIT(file__copies, TIMED, NR_SENDFILE, NR_COPY_FILE_RANGE, NR_SPLICE)
{
	struct file_call_info call = {.entered = entered, .ret = ret};
	unsigned long in_fd = syscall_arg(regs, 1), in_at = syscall_arg(regs, 2);
	unsigned long out_fd = syscall_arg(regs, 3), out_at = syscall_arg(regs, 4);
	__u32 name = nr == NR_SPLICE ? CALL_SPLICE : CALL_COPY_FILE_RANGE;
	bool is_in_regular, is_out_regular;
	struct file *in, *out;

	call.requested = syscall_arg(regs, 5);
	if (nr == NR_SENDFILE) {
		name = CALL_SENDFILE;
		call.requested = out_at;
		out_at = 0;
		out_fd = in_fd;
		in_fd = in_at;
		in_at = syscall_arg(regs, 3);
	}
	/* From here on the calls are alike, to the verifier too. */
	name = opaque(name);
	out_at = opaque(out_at);
	in = file_of_fd(in_fd);
	out = file_of_fd(out_fd);
	is_in_regular = is_regular(in);
	is_out_regular = is_regular(out);
	if ((!is_in_regular && !is_out_regular) || !wanted_current(&call.task))
		return 0;
	if (is_in_regular) {
		call.op = FILE_OP(FILE_READ, name);
		call.offset = copy_offset(in, in_at, opaque(ret));
		on_file_call(&call, in);
	}
	if (is_out_regular) {
		call.op = FILE_OP(FILE_WRITE, name);
		call.offset = copy_offset(out, out_at, opaque(ret));
		on_file_call(&call, out);
	}
	return 0;
}

/* A file that is known by its path alone: told each time, as the caller named it. */
static __always_inline __u64 tell_path(const char *path, __u64 now)
{
	__u64 base = file_base(path, AT_FDCWD, false, now);
	struct {
		struct ebrec_file_path event;
		struct ebrec_file file;
		char path[PATH_MAX];
	} *record = reserve_any(EBREC_FILE_PATH, sizeof(*record), now);
	long len;

	if (!record)
		return FILE_UNKNOWN;
	put_current(&record->event.head.task);
	record->file.id = next_file();
	record->file.base = base;
	record->file.inode = EBREC_NULL64;
	record->file.dev = EBREC_NULL32;
	((__u64 *)record->file.fs)[0] = 0;
	((__u64 *)record->file.fs)[1] = 0;
	len = bpf_probe_read_user_str(record->path, PATH_MAX, path);
	record->file.has_names = base != FILE_UNKNOWN && len > 0;
	if (len < 0 || len > PATH_MAX)
		len = 0;
	record->event.head.size = sizeof(record->event) + sizeof(record->file) + len;
	base = record->file.id;
	submit(record);
	return base;
}

/* Truncates by name. The call has let go of the file by now, so only its name is known; and that it was a regular file only if it
 * succeeded (vfs_truncate refuses others). */
ON_SYS_EXIT(file__truncates, TIMED, NR_TRUNCATE)
{
	struct file_call_info call = {.entered = entered, .requested = EBREC_NULL64};
	__u64 now;

	if (ret || !wanted_current(&call.task))
		return 0;
	now = bpf_ktime_get_boot_ns();
	call.op = FILE_OP(FILE_TRUNCATE, CALL_TRUNCATE);
	call.offset = syscall_arg(regs, 2);
	return emit_file_io(&call, tell_path((void *)syscall_arg(regs, 1), now), now);
}

/* What a program asked of io_uring and isn't done yet, by the address of the request. Not every request is said to be complete;
 * its entry goes when the kernel uses its memory for another, or after URING_PATIENCE_NS. */
struct uring_request {
	__u64 entered;
	struct ebrec_task task;
};

/* Longer than a file's I/O takes. */
#define URING_PATIENCE_NS 300000000000ULL

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct uring_request);
} uring_requests SEC(".maps");

/* The operation of a request and the file it is on; 0 if it is none of ours. */
static __always_inline __u32 uring_op(__u8 opcode)
{
	switch (opcode) {
	case IORING_OP_READV:
	case IORING_OP_READ_FIXED:
	case IORING_OP_READ:
		return FILE_READ;
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_WRITE:
		return FILE_WRITE;
	case IORING_OP_FSYNC:
	case IORING_OP_SYNC_FILE_RANGE:
		return FILE_SYNC;
	default:
		return 0;
	}
}

/* The request names its file only when it is carried out, so who asked, and when, is all that is known here. With
 * IORING_SETUP_SQPOLL it is the kernel's thread that takes it up, under a name of its own, in the process that made it. */
static __always_inline int on_uring_submit(struct io_kiocb *req)
{
	struct uring_request request = {};
	__u64 key = (__u64)req;

	if (!uring_op(BPF_CORE_READ(req, opcode)) || !wanted_current(&request.task)) {
		/* Requests are used again, and not each is said to be complete. */
		bpf_map_delete_elem(&uring_requests, &key);
		return 0;
	}
	request.entered = bpf_ktime_get_boot_ns();
	if (bpf_map_update_elem(&uring_requests, &key, &request, BPF_ANY))
		count_full(EBREC_FILE_IO);
	return 0;
}

static __always_inline int on_uring_complete(struct io_kiocb *req)
{
	struct io_rw *rw = (void *)req;
	struct file_call_info call = {};
	struct uring_request *request;
	__u64 key = (__u64)req;
	struct file *file;
	__u8 opcode;
	__u32 op;

	/* A request that began before the window isn't known: whose it is can't be told from the task that completes it. */
	request = bpf_map_lookup_elem(&uring_requests, &key);
	if (!request)
		return 0;
	/* As of system calls: without a beginning if that was before the window. */
	call.entered = request->entered < window_from ? 0 : request->entered;
	call.task = request->task;
	bpf_map_delete_elem(&uring_requests, &key);
	opcode = BPF_CORE_READ(req, opcode);
	op = uring_op(opcode);
	file = BPF_CORE_READ(req, file);
	if (!op || !is_regular(file))
		return 0;
	call.op = FILE_OP(op, CALL_IO_URING);
	call.ret = BPF_CORE_READ(req, cqe.res);
	call.offset = EBREC_NULL64;
	call.requested = EBREC_NULL64;
	if (op != FILE_SYNC) {
		/* Its position has moved by what was done. The lengths of a vector are in memory that may be another's by now. */
		call.offset = BPF_CORE_READ(rw, kiocb.ki_pos);
		if (call.ret > 0)
			call.offset -= call.ret;
		if (opcode != IORING_OP_READV && opcode != IORING_OP_WRITEV)
			call.requested = BPF_CORE_READ(rw, len);
	}
	return on_file_call(&call, file);
}

/* The tracepoint tells the request since 5.19. Older kernels have no field io_kiocb.cqe either, for which they refuse this. */
SEC("?tp_btf/io_uring_complete")
int BPF_PROG(file__uring__tp_btf__complete, void *ctx_of_ring, void *req)
{
	return on_uring_complete(req);
}

/* Until 6.4 its name was io_uring_submit_sqe ("io_uring: rename trace_io_uring_submit_sqe() tracepoint"). */
SEC("?tp_btf/io_uring_submit_req")
int BPF_PROG(file__uring__tp_btf__submit_req, struct io_kiocb *req)
{
	return on_uring_submit(req);
}

SEC("?tp_btf/io_uring_submit_sqe")
int BPF_PROG(file__uring__tp_btf__submit_sqe, struct io_kiocb *req)
{
	return on_uring_submit(req);
}

SEC("?iter/bpf_map_elem")
int file__uring_forgotten__iter_second__uring_requests(struct bpf_iter__bpf_map_elem *ctx)
{
	struct uring_request *request = ctx->value;
	__u64 *at = ctx->key, key;

	if (!request || !at || bpf_ktime_get_boot_ns() - request->entered < URING_PATIENCE_NS)
		return 0;
	key = *at;
	bpf_map_delete_elem(&uring_requests, &key);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Block I/O: requests from their queue through the device, and bios of the devices that have no requests. */
#include "ebrec.h"

/* What is remembered of a request or bio until it is over. */
struct block_io {
	struct ebrec_task owner;
	__u64 inserted_at; /* 0: never was in a queue, or before the window */
	__u64 issued_at; /* the last time; 0: not yet */
	__u64 sector;
	__u64 bytes; /* all of it */
	__u64 done; /* of these, completed while the rest went back to the queue */
	__u64 disk; /* struct gendisk */
	__u32 dev;
	__u32 opf; /* operation and flags as the kernel has them */
	__u32 error; /* of a part */
	__u16 cpu;
	__u8 unwanted; /* by the filters */
	__u8 requeued; /* and not issued again */
	__u8 flush; /* has a flush before or after it: completes once more, without data */
	__u8 reported; /* waits for that */
	__u8 pad[6];
};

/* Requests by address; a write that needs a flush is also found by its bio, before it has a request that is told of. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct block_io);
} block_requests SEC(".maps");

/* Bios of disks without requests, by address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct block_io);
} block_bios SEC(".maps");

/* Whether this kernel tells of a flush's beginning by its bio. */
__u32 block_starts_by_bio = 0;

/* Kind BlockLayer. */
enum block_layer {
	BLOCK_LAYER_REQUEST,
	BLOCK_LAYER_BIO,
};

static __always_inline void block_own(struct block_io *io)
{
	io->unwanted = !wanted_current(&io->owner);
	io->cpu = bpf_get_smp_processor_id();
}

/* A fresh entry, owned by the task that runs now. */
static __always_inline struct block_io *block_remember(void *map, __u64 key, struct block_io *fresh)
{
	bpf_map_update_elem(map, &key, fresh, BPF_ANY);
	fresh = bpf_map_lookup_elem(map, &key);
	if (!fresh)
		count_full(EBREC_BLOCK_IO);
	return fresh;
}

/* What the request is: it may have grown by merges until it is issued, and shrinks when a part is done. */
static __always_inline void block_describe(struct block_io *io, struct request *rq)
{
	struct gendisk *disk = request_disk(rq);

	io->disk = (__u64)disk;
	io->dev = request_dev(rq, disk);
	io->opf = rq->cmd_flags;
	io->sector = rq->__sector;
	io->bytes = rq->__data_len;
}

static __always_inline void block_fill(struct ebrec_block_io *event, struct block_io *io, enum block_layer layer)
{
	__u32 op = block_op_of(io->opf);

	/* A bio without data is how a file system asks for a flush (blkdev_issue_flush). */
	if (layer == BLOCK_LAYER_BIO && op == REQ_OP_WRITE && !io->bytes)
		op = REQ_OP_FLUSH;
	event->head.task = io->owner;
	event->head.cpu = io->cpu;
	event->bytes = io->bytes;
	event->sector = op == REQ_OP_FLUSH || op >= BLOCK_OP_DRIVER ? EBREC_NULL64 : io->sector;
	event->dev = io->dev;
	event->op = op;
	event->flags = block_flags_of(io->opf);
	event->layer = layer;
	event->queued_ns = io->inserted_at && io->issued_at ? io->issued_at - io->inserted_at : EBREC_NULL64;
	event->pad = 0;
	__builtin_memset(event->disk, 0, sizeof(event->disk));
	if (io->disk)
		bpf_probe_read_kernel(event->disk, sizeof(event->disk), ((struct gendisk *)io->disk)->disk_name);
}

/* What was before the window was at no time that a row can have, as if it had not been seen. The task is known. */
static __always_inline void block_forget_before_window(struct block_io *io)
{
	if (io->inserted_at < window_from)
		io->inserted_at = 0;
	if (io->issued_at < window_from)
		io->issued_at = 0;
}

/* ERROR is as the tracepoint has it. */
static __always_inline void block_emit(struct block_io *io, __u64 now, __u32 error, enum block_layer layer)
{
	struct ebrec_block_io *event;
	__u64 began;

	if (io->unwanted)
		return;
	block_forget_before_window(io);
	began = io->inserted_at ? io->inserted_at : io->issued_at ? io->issued_at : now;
	event = RECORD(block_io, BLOCK_IO, began);
	if (!event)
		return;
	block_fill(event, io, layer);
	event->latency_ns = io->issued_at ? now - io->issued_at : EBREC_NULL64;
	event->error = error;
	submit(event);
}

static __always_inline int on_request_insert(struct request *rq)
{
	__u64 key = (__u64)rq, now = bpf_ktime_get_boot_ns();
	struct block_io *io = bpf_map_lookup_elem(&block_requests, &key);
	struct block_io fresh = {};

	if (io && io->requeued)
		return 0;
	if (io && io->flush && !io->inserted_at && !io->issued_at) {
		io->inserted_at = now;
		return 0;
	}
	fresh.inserted_at = now;
	block_own(&fresh);
	block_describe(&fresh, rq);
	block_remember(&block_requests, key, &fresh);
	return 0;
}

/* The queue was an argument before 5.11, and still is in some 5.10.x
 * (a54895fa057c "block: remove the request_queue to argument request based tracepoints"). */
TWICE(block__insert);
ON_TP_TWICE(block__insert, tp_btf_1args, spare_preempted, "block_rq_insert", on_request_insert(rq), struct request *rq)

SEC("?tp_btf/block_rq_insert")
int BPF_PROG(block__insert__tp_btf_2args, struct request_queue *q, struct request *rq)
{
	return on_request_insert(rq);
}

/* The flush itself is issued by whatever context the last one ended in. It belongs to the task whose request has been waiting for
 * it longest, which is the first in the list that this flush is for (blk_kick_flush, flush_end_io). */
static __always_inline struct block_io *waiting_for_flush(struct request *flush)
{
	struct blk_flush_queue *fq = BPF_CORE_READ(flush, mq_hctx, fq);
	struct list_head *list, *first;
	struct block_io *io;
	__u64 key;

	if (!fq)
		return NULL;
	list = &fq->flush_queue[BPF_CORE_READ_BITFIELD_PROBED(fq, flush_running_idx) & 1];
	first = BPF_CORE_READ(list, next);
	if (!first || first == list)
		return NULL;
	key = request_in_flush_list(first);
	io = bpf_map_lookup_elem(&block_requests, &key);
	if (io || !block_starts_by_bio)
		return io;
	key = (__u64)BPF_CORE_READ((struct request *)key, bio);
	return bpf_map_lookup_elem(&block_requests, &key);
}

static __always_inline int on_request_issue(struct request *rq)
{
	__u64 key = (__u64)rq, now = bpf_ktime_get_boot_ns();
	struct block_io *io = bpf_map_lookup_elem(&block_requests, &key);
	bool is_flush = block_op_of(rq->cmd_flags) == REQ_OP_FLUSH;
	struct block_io fresh = {};

	/* Issued already, and not again: another request, whose forerunner went away without a word. */
	if (io && io->issued_at && !io->requeued)
		io = NULL;
	if (!io) {
		struct block_io *known = NULL;
		__u64 bio = (__u64)rq->bio;

		if (is_flush)
			known = waiting_for_flush(rq);
		else if (block_starts_by_bio)
			known = bpf_map_lookup_elem(&block_requests, &bio);
		if (known) {
			fresh.owner = known->owner;
			fresh.unwanted = known->unwanted;
			fresh.cpu = bpf_get_smp_processor_id();
		} else {
			block_own(&fresh);
		}
		if (known && !is_flush) {
			fresh.flush = 1;
			bpf_map_delete_elem(&block_requests, &bio);
		}
		io = block_remember(&block_requests, key, &fresh);
		if (!io)
			return 0;
	}
	io->issued_at = now;
	io->requeued = 0;
	if (!io->done)
		block_describe(io, rq);
	return 0;
}

TWICE(block__issue);
ON_TP_TWICE(block__issue, tp_btf_1args, spare_preempted, "block_rq_issue", on_request_issue(rq), struct request *rq)

SEC("?tp_btf/block_rq_issue")
int BPF_PROG(block__issue__tp_btf_2args, struct request_queue *q, struct request *rq)
{
	return on_request_issue(rq);
}

/* A request that had to wait for something in the driver; the device's time begins when it is issued again. */
static __always_inline int on_request_requeue(struct request *rq)
{
	__u64 key = (__u64)rq;
	struct block_io *io = bpf_map_lookup_elem(&block_requests, &key);

	if (io)
		io->requeued = 1;
	return 0;
}

SEC("?tp_btf/block_rq_requeue")
int BPF_PROG(block__requeue__tp_btf_1args, struct request *rq)
{
	return on_request_requeue(rq);
}

SEC("?tp_btf/block_rq_requeue")
int BPF_PROG(block__requeue__tp_btf_2args, struct request_queue *q, struct request *rq)
{
	return on_request_requeue(rq);
}

/* Its data now belongs to another request; this one will neither be issued nor completed. */
static __always_inline int on_request_merge(struct request *rq)
{
	__u64 key = (__u64)rq;

	bpf_map_delete_elem(&block_requests, &key);
	return 0;
}

SEC("?tp_btf/block_rq_merge")
int BPF_PROG(block__merge__tp_btf_1args, struct request *rq)
{
	return on_request_merge(rq);
}

SEC("?tp_btf/block_rq_merge")
int BPF_PROG(block__merge__tp_btf_2args, struct request_queue *q, struct request *rq)
{
	return on_request_merge(rq);
}

/* A write that needs the device's cache to be flushed before or after it is held back, and issued by whoever ends the flush: its
 * task is known only here. All others are inserted or issued by the task that made them. */
SEC("?tp_btf/block_io_start")
int BPF_PROG(block__start__tp_btf, struct request *rq)
{
	struct block_io fresh = {.flush = 1};

	if (!(block_flags_of(rq->cmd_flags) & (BLOCK_FUA | BLOCK_PREFLUSH)))
		return 0;
	block_own(&fresh);
	block_remember(&block_requests, (__u64)rq, &fresh);
	return 0;
}

/* Before 6.5 the last that is told in that task is its bio, which gets a request now. */
static __always_inline int on_getrq(struct bio *bio)
{
	struct block_io fresh = {.flush = 1};

	if (!bio || !(block_flags_of(bio->bi_opf) & (BLOCK_FUA | BLOCK_PREFLUSH)))
		return 0;
	block_starts_by_bio = 1;
	block_own(&fresh);
	block_remember(&block_requests, (__u64)bio, &fresh);
	return 0;
}

SEC("?tp_btf/block_getrq")
int BPF_PROG(block__start__tp_btf_1args, struct bio *bio)
{
	return on_getrq(bio);
}

SEC("?tp_btf/block_getrq")
int BPF_PROG(block__start__tp_btf_3args, struct request_queue *q, struct bio *bio, int rw)
{
	return on_getrq(bio);
}

static __always_inline int on_request_complete(struct request *rq, int error, unsigned int nr_bytes)
{
	__u64 key = (__u64)rq, now = bpf_ktime_get_boot_ns();
	struct block_io *io = bpf_map_lookup_elem(&block_requests, &key);
	__u32 errno = block_errno_of(error);
	struct block_io unknown = {};

	/* Told before the bytes are taken off (blk_update_request): the last of them makes it whole. */
	if (nr_bytes < rq->__data_len) {
		if (io) {
			io->done += nr_bytes;
			if (!io->error)
				io->error = errno;
		}
		return 0;
	}
	/* Nothing was done by the device: a request for a flush that is over, or the second end of a write with flushes. */
	if (!nr_bytes && block_op_of(rq->cmd_flags) == REQ_OP_WRITE && (!io || io->reported || !io->issued_at)) {
		if (io)
			bpf_map_delete_elem(&block_requests, &key);
		if (block_starts_by_bio) {
			key = (__u64)rq->bio;
			bpf_map_delete_elem(&block_requests, &key);
		}
		return 0;
	}
	if (!io) {
		/* Issued before the window, nobody knows by whom. */
		if (is_filtered())
			return 0;
		block_describe(&unknown, rq);
		put_unknown(&unknown.owner);
		unknown.cpu = bpf_get_smp_processor_id();
		block_emit(&unknown, now, errno, BLOCK_LAYER_REQUEST);
		return 0;
	}
	if (!io->issued_at)
		block_describe(io, rq);
	block_emit(io, now, io->error ? io->error : errno, BLOCK_LAYER_REQUEST);
	if (io->flush)
		io->reported = 1;
	else
		bpf_map_delete_elem(&block_requests, &key);
	return 0;
}

TWICE(block__complete);
ON_TP_TWICE(block__complete, tp_btf, spare, "block_rq_complete", on_request_complete(rq, error, nr_bytes), struct request *rq,
	    int error, unsigned int nr_bytes)

/* A bio of a disk that has no requests: dm, md, zram, brd and the like. */
static __always_inline int on_bio_queue(struct bio *bio)
{
	struct gendisk *disk = bio_disk(bio);
	struct block_io fresh = {};

	if (disk->queue->mq_ops)
		return 0;
	fresh.issued_at = bpf_ktime_get_boot_ns();
	block_own(&fresh);
	fresh.disk = (__u64)disk;
	fresh.dev = bio_dev(bio, disk);
	fresh.opf = bio->bi_opf;
	fresh.sector = bio->bi_iter.bi_sector;
	fresh.bytes = bio->bi_iter.bi_size;
	block_remember(&block_bios, (__u64)bio, &fresh);
	return 0;
}

/* The queue was an argument before 5.11 (e8a676d61c07 "block: simplify and extend the block_bio_merge tracepoint class"). */
TWICE(block__bio_queue);
ON_TP_TWICE(block__bio_queue, tp_btf_1args, spare_preempted, "block_bio_queue", on_bio_queue(bio), struct bio *bio)

SEC("?tp_btf/block_bio_queue")
int BPF_PROG(block__bio_queue__tp_btf_2args, struct request_queue *q, struct bio *bio)
{
	return on_bio_queue(bio);
}

/* Pieces that a driver split off complete as well, but were never queued; the bio they came from completes after the last. */
static __always_inline int on_bio_complete(struct bio *bio)
{
	__u64 key = (__u64)bio;
	struct block_io *io = bpf_map_lookup_elem(&block_bios, &key);

	if (!io)
		return 0;
	block_emit(io, bpf_ktime_get_boot_ns(), block_errno_of(bio->bi_status), BLOCK_LAYER_BIO);
	bpf_map_delete_elem(&block_bios, &key);
	return 0;
}

TWICE(block__bio_complete);
ON_TP_TWICE(block__bio_complete, tp_btf, spare, "block_bio_complete", on_bio_complete(bio), struct request_queue *q,
	    struct bio *bio)

/* What is not over at the end: neither how long it took nor how it ended is known. */
static __always_inline int on_unfinished(struct bpf_iter__bpf_map_elem *ctx, enum block_layer layer)
{
	struct ebrec_block_io row = {};
	struct block_io *io = ctx->value;

	/* A write that waits for a flush is not at the device: the flush is. */
	if (!io || io->unwanted || io->reported || !(io->inserted_at || io->issued_at))
		return 0;
	row.head.ts = begin_in_window(io->inserted_at ? io->inserted_at : io->issued_at);
	if (!in_window(row.head.ts))
		return 0;
	block_forget_before_window(io);
	row.head.size = sizeof(row);
	row.head.table = EBREC_BLOCK_IO;
	block_fill(&row, io, layer);
	row.latency_ns = EBREC_NULL64;
	row.error = EBREC_NULL32;
	put_row(ctx->meta, &row, sizeof(row));
	return 0;
}

SEC("?iter/bpf_map_elem")
int block__unfinished__iter_end__block_requests(struct bpf_iter__bpf_map_elem *ctx)
{
	return on_unfinished(ctx, BLOCK_LAYER_REQUEST);
}

SEC("?iter/bpf_map_elem")
int block__unfinished_bios__iter_end__block_bios(struct bpf_iter__bpf_map_elem *ctx)
{
	return on_unfinished(ctx, BLOCK_LAYER_BIO);
}

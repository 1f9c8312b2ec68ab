/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Files and directories, for the probes whose records name them.
 *
 * A path is long, and finding it means to walk up the dentries; so a record has only a number. What the number stands for is told
 * once, by a record of file_path before the first that uses it: device, inode, file system, and the names from the file up to the
 * root of its mount namespace. It is found by walking instead of in user memory or /proc, so it is right for processes that are
 * gone, and in other mount namespaces.
 */
#ifndef EBREC_FILES_H
#define EBREC_FILES_H

#include "syscalls.h"

/* What a number was given to: a file under one of its names, in one mount. */
struct file_key {
	__u64 dentry;
	__u64 mnt;
};

/* All that the description says but for the names of the directories above; if one of these differs, it is another file at the same
 * address, or it was renamed. */
struct told_file {
	__u64 id;
	__u64 parent;
	__u64 name_hash;
	__u64 sb;
	__u64 inode;
	__u64 told_at;
};

/* A file that is forgotten is told again, under another number: that costs a record, and no row lacks its file. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct file_key);
	__type(value, struct told_file);
} told_files SEC(".maps");

/* Files numbered so far on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} file_count SEC(".maps");

/* The calls that open files. */
#if defined(__TARGET_ARCH_x86)
#define OPEN_CALLS NR_OPEN, NR_CREAT, NR_OPENAT, NR_OPENAT2
#else
#define OPEN_CALLS NR_OPENAT, NR_OPENAT2
#endif

#define FILE_UNKNOWN 0
/* The root of a mount namespace, which has no name; the numbers of CPU 0 begin at 4096. */
#define FILE_ROOT 1
/* That a directory above was renamed is noticed when a file is told again, after this time. */
#define FILE_TOLD_NS 30000000000ULL
/* Directories and mounts that a path may have. */
#define FILE_DEPTH 64
/* A name with its NUL (NAME_MAX). */
#define FILE_NAME 256

static __always_inline __u64 next_file(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&file_count, &zero);
	__u64 number = count ? next_number(count) : 0;

	if (!number)
		return FILE_UNKNOWN;
	/* 12 bits are enough for the kernel's largest CPU number. */
	return number << 12 | bpf_get_smp_processor_id();
}

/* Writes the names of a file and the directories above it, each with its NUL. ROOM is
 * a power of two, and NAMES twice as long and a name. The result is their length; negative if they don't fit or there are too many.
 */
static __always_inline long put_names(char *names, __u64 room, struct dentry *dentry, struct vfsmount *mnt)
{
	struct dentry *parent;
	struct mount *mount, *above;
	__u64 at;
	long len;

	/* A zero that the verifier can't see: else it follows every length that the names may have so far. */
	*(__u32 *)names = 0;
	barrier();
	at = *(volatile __u32 *)names;
	for (int i = 0; i < FILE_DEPTH; i++) {
		if (dentry == BPF_CORE_READ(mnt, mnt_root)) {
			mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
			above = BPF_CORE_READ(mount, mnt_parent);
			if (above == mount)
				return at;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mnt = (void *)above + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		if (at > room)
			return -1;
		/* The verifier of 5.10 loses what the comparison says; the compiler would leave out a mask that changes nothing. */
		asm volatile("%0 &= %1" : "+r"(at) : "r"(2 * room - 1));
		len = bpf_probe_read_kernel_str(names + at, FILE_NAME, BPF_CORE_READ(dentry, d_name.name));
		if (len <= 0 || len > FILE_NAME)
			return -1;
		at += len;
		parent = BPF_CORE_READ(dentry, d_parent);
		/* Files without a directory: memfd, and what the kernel keeps for itself. */
		if (parent == dentry)
			return at;
		dentry = parent;
	}
	return -1;
}

/* A record with room for ROOM bytes of names; goes on behind if they need more. */
#define TELL_FILE(ROOM)                                                                                               \
	do {                                                                                                          \
		struct {                                                                                              \
			struct ebrec_file_path event;                                                                 \
			struct ebrec_file file;                                                                       \
			char names[2 * (ROOM) + FILE_NAME];                                                           \
		} *record = reserve_any(EBREC_FILE_PATH, sizeof(*record), now);                                       \
		long len;                                                                                             \
                                                                                                                      \
		if (!record)                                                                                          \
			return false;                                                                                 \
		len = put_names(record->names, ROOM, dentry, mnt);                                                    \
		if (len == 0)                                                                                         \
			file->id = FILE_ROOT;                                                                         \
		if (len < 0 && (ROOM) < FILE_NAMES_MAX) {                                                             \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                                                \
			break;                                                                                        \
		}                                                                                                     \
		put_current(&record->event.head.task);                                                                \
		record->file.id = file->id;                                                                           \
		record->file.inode = file->inode;                                                                     \
		record->file.base = FILE_UNKNOWN;                                                                     \
		record->file.dev = BPF_CORE_READ(sb, s_dev);                                                          \
		record->file.has_names = len >= 0;                                                                    \
		((__u64 *)record->file.fs)[0] = 0;                                                                    \
		((__u64 *)record->file.fs)[1] = 0;                                                                    \
		bpf_probe_read_kernel_str(record->file.fs, sizeof(record->file.fs), BPF_CORE_READ(sb, s_type, name)); \
		record->event.head.size = sizeof(record->event) + sizeof(record->file) + (len > 0 ? len : 0);         \
		submit(record);                                                                                       \
		return true;                                                                                          \
	} while (0)

#define FILE_NAMES_MAX 4096

static __always_inline bool tell_file(struct told_file *file, struct dentry *dentry, struct vfsmount *mnt, __u64 now)
{
	struct super_block *sb = (void *)file->sb;

	TELL_FILE(256);
	TELL_FILE(FILE_NAMES_MAX);
	return false;
}

/* The number of a file, which is told first if it is new. A function of its own, verified once: its arguments are addresses of a
 * dentry and a vfsmount. */
__noinline __u64 file_id(__u64 dentry_at, __u64 mnt_at, __u64 now)
{
	struct file_key key = {.dentry = dentry_at, .mnt = mnt_at};
	struct dentry *dentry = (void *)dentry_at;
	struct told_file file, *told;
	struct inode *inode;

	file.parent = (__u64)BPF_CORE_READ(dentry, d_parent);
	file.name_hash = BPF_CORE_READ(dentry, d_name.hash_len);
	inode = BPF_CORE_READ(dentry, d_inode);
	file.sb = (__u64)BPF_CORE_READ(inode, i_sb);
	file.inode = BPF_CORE_READ(inode, i_ino);
	told = bpf_map_lookup_elem(&told_files, &key);
	if (told && told->parent == file.parent && told->name_hash == file.name_hash && told->sb == file.sb &&
	    told->inode == file.inode && now - told->told_at < FILE_TOLD_NS)
		return told->id;
	file.told_at = now;
	file.id = next_file();
	if (file.id == FILE_UNKNOWN || !tell_file(&file, dentry, (void *)mnt_at, now))
		return FILE_UNKNOWN;
	/* If that fails, it is told again. */
	bpf_map_update_elem(&told_files, &key, &file, BPF_ANY);
	return file.id;
}

static __always_inline __u64 file_id_of(struct file *file, __u64 now)
{
	return file_id((__u64)BPF_CORE_READ(file, f_path.dentry), (__u64)BPF_CORE_READ(file, f_path.mnt), now);
}

/* The address of what a descriptor of the current task is open on; 0 if it isn't open. A function of its own for the reason of
 * current_start. */
__noinline __u64 file_at_fd(__u32 fd)
{
	struct file **files, *file = NULL;
	struct fdtable *fdt;
	__u32 max_fds;

	if (has_current_task_btf()) {
		fdt = bpf_get_current_task_btf()->files->fdt;
		max_fds = fdt->max_fds;
		files = fdt->fd;
	} else {
		fdt = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), files, fdt);
		max_fds = BPF_CORE_READ(fdt, max_fds);
		files = BPF_CORE_READ(fdt, fd);
	}
	if (fd >= max_fds || bpf_probe_read_kernel(&file, sizeof(file), files + fd))
		return 0;
	return (__u64)file;
}

static __always_inline struct file *file_of_fd(__u32 fd)
{
	return (struct file *)file_at_fd(fd);
}

static __always_inline __u64 file_id_of_path(struct path *path, __u64 now)
{
	return file_id((__u64)BPF_CORE_READ(path, dentry), (__u64)BPF_CORE_READ(path, mnt), now);
}

/* The directory from which a path in user memory leads on. */
static __always_inline __u64 file_base(const char *path, int dirfd, bool in_root, __u64 now)
{
	struct fs_struct *fs = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), fs);
	struct file *dir;
	char first = 0;

	/* Without a path there is nothing to lead anywhere. */
	if (bpf_probe_read_user(&first, 1, path) || !first)
		return FILE_UNKNOWN;
	if (first == '/' && !in_root)
		return file_id_of_path(&fs->root, now);
	if (dirfd == AT_FDCWD)
		return file_id_of_path(&fs->pwd, now);
	dir = file_of_fd(dirfd);
	return dir ? file_id_of(dir, now) : FILE_UNKNOWN;
}

/* What a failed call gives to the program. A call that a signal interrupts is done again, or becomes EINTR (ERESTARTSYS to
 * ERESTART_RESTARTBLOCK of include/linux/errno.h never leave the kernel). */
static __always_inline __u32 errno_of(long ret)
{
	return ret >= 0 ? 0 : ret <= -512 && ret >= -516 ? 4 : -ret;
}

#endif

/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A mediated VFIO device whose state is made up, and which behaves like the device of a real driver.
 *
 * Locks, outermost first:
 *   statedev.state_mutex   the migration state, the knobs, which session is open; held for as long as an arc takes
 *   save.reading           one read at a time; held while a read waits
 *   load.writing           one write at a time
 *   save.lock              what has been made and what has been read; also taken by the timer
 *   statedev.dirt.lock     how much the running device has changed
 *   statedev.log.lock
 * A session (struct save, struct load) has its own copy of the knobs and a reference to the device, because its file may
 * outlive the device's registration.
 */
#ifndef STATEDEV_H
#define STATEDEV_H

#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/vfio.h>
#include <linux/wait.h>

#define STATE_SIZE_MIN		SZ_4K
#define STATE_SIZE_MAX		(4ULL * SZ_1G)
#define NOWHERE			U64_MAX
#define CONFIG_SIZE		256
#define SCRATCH_SIZE		SZ_64K
#define DIRTY_UNIT		SZ_4K

/* Everything in which drivers differ. Times are in microseconds, unless the name says otherwise. */
struct knobs {
	u64 flags;		/* VFIO_MIGRATION_* */
	u64 state_size;		/* bytes in all, if nothing is sent twice */
	u64 initial_bytes;	/* of these, the part that is sent in PRE_COPY first */
	u64 dirty_rate;		/* bytes changed per second of running */
	u64 resend;		/* what is sent again is always the whole state */
	u64 chunk_size;		/* state is made in pieces of this size; 0: in one */
	u64 chunk_us;		/* the time that each of them takes; 0: none */
	u64 chunks_ahead;	/* no more than this many are made before they have been read */
	u64 read_us;
	u64 write_us;
	u64 load_us;		/* RESUMING -> STOP, beside the time of that arc */
	u64 pollable;		/* poll tells whether a read would wait; O_NONBLOCK is honoured */
	u64 whole_reads;	/* a read waits until it has everything; a signal loses what it had */
	u64 precopy_end_zero;	/* a read at the end of the pre-copy data returns 0, not ENOMSG */
	u64 enomsg_saving;	/* ENOMSG also while the next chunk is being made */
	u64 info_us;		/* the time that PRECOPY_INFO takes */
	u64 info_starts_save;	/* only PRECOPY_INFO takes up what has changed; it waits for the chunk being made */
	u64 info_cache_ms;	/* it takes up changes no more often than this */
	u64 check_early;	/* a write refuses the state of an incompatible device; else RESUMING -> STOP does */
	u64 compat;		/* states of devices with different numbers are incompatible */
	u64 read_error_at;	/* EIO at this byte of the stream */
	u64 write_error_at;
	u32 arc_us[VFIO_DEVICE_STATE_NR][VFIO_DEVICE_STATE_NR];
	struct {
		u8 from, to;	/* no arc if both are 0 */
		bool breaks;	/* the device is then in ERROR */
		int error;
	} fail;
};

struct profile {
	struct mdev_type type;
	u32 id;
	struct knobs knobs;
};

extern struct mdev_type *statedev_types[];
extern const unsigned int statedev_types_count;

/* --- log ------------------------------------------------------------------------------- */

#define LOG_ENTRIES 48		/* as many as fit into a sysfs attribute */

enum log_kind { LOG_ARC, LOG_FIRST_READ, LOG_LAST_READ, LOG_FIRST_WRITE, LOG_LAST_WRITE, LOG_RESET };

struct log_entry {
	u64 begin, end;		/* CLOCK_MONOTONIC, ns */
	u64 bytes;
	int result;
	u8 kind, from, to;
};

struct log {
	spinlock_t lock;
	unsigned int count;
	struct log_entry entries[LOG_ENTRIES];
};

void log_add(struct log *log, struct log_entry entry);
void log_clear(struct log *log);
ssize_t log_show(struct log *log, char *page);

/* --- device ---------------------------------------------------------------------------- */

/* How much the device has changed since its state was new. Time counts while it runs. */
struct dirt {
	spinlock_t lock;
	u64 bytes, since, rate;
	bool running;
};

struct save;
struct load;

struct statedev {
	struct vfio_device vdev;
	const struct profile *profile;

	struct mutex state_mutex;
	unsigned long reset_wanted;	/* bit 0: whoever has state_mutex does it */
	enum vfio_device_mig_state state;
	struct knobs knobs;
	struct save *save;
	struct load *load;
	bool opened, dma_logging;
	u64 seed, generation, resets, loads, saves;

	struct mutex config_mutex;
	u8 config[CONFIG_SIZE];

	struct dirt dirt;
	struct log log;
};

static inline struct statedev *to_statedev(struct vfio_device *vdev)
{
	return container_of(vdev, struct statedev, vdev);
}

extern const struct vfio_device_ops statedev_ops;
extern const struct attribute_group *statedev_groups[];

void config_reset(struct statedev *sd);

/* --- migration ------------------------------------------------------------------------- */

extern const struct vfio_migration_ops statedev_mig_ops;
extern const struct vfio_log_ops statedev_log_ops;
extern const char *const state_names[VFIO_DEVICE_STATE_NR];

void state_unlock(struct statedev *sd);
void statedev_reset(struct statedev *sd);
void statedev_end_sessions(struct statedev *sd);
u64 dirt_total(struct dirt *dirt);
void dirt_set(struct dirt *dirt, u64 bytes);
void dirt_run(struct statedev *sd, u8 state);
int pause_us(u64 us, unsigned int state);

/* --- the stream: records, each with content that follows from the seed and its place ------ */

#define RECORD_MAGIC	0x76656474u	/* "tdev" */
#define RECORD_VERSION	1

enum record_kind { RECORD_HEADER = 1, RECORD_DATA = 2, RECORD_END = 3 };

struct record {
	__le32 magic;
	__le16 version;
	__le16 kind;
	__le64 length;		/* of the content that follows */
	__le64 position;	/* of this record in the stream */
	__le64 seed;
	__le64 dirtied;
	__le64 state_size;
	__le32 profile;
	__le32 compat;
	__le64 reserved;
} __packed;

#define RECORD_SIZE	sizeof(struct record)
static_assert(RECORD_SIZE == 64);

void stream_fill(u64 seed, u64 position, u8 *to, size_t length);
bool stream_matches(u64 seed, u64 position, const u8 *bytes, size_t length);

/* --- sessions -------------------------------------------------------------------------- */

struct file *save_begin(struct statedev *sd, bool precopy);
void save_finish(struct save *save);
void save_end(struct save *save);
u64 save_left(struct save *save);

struct file *load_begin(struct statedev *sd);
int load_finish(struct statedev *sd);
void load_end(struct load *load);

#endif

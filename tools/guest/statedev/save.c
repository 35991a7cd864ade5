// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The session in which state is saved, and its file. A stream is a list of pieces: records, and the content of some. When
 * a piece is added, its bytes exist in principle (up to "limit"); they are made chunk by chunk, each taking its time on a
 * timer (up to "ready"), and only then can they be read (up to "position"). Content is computed while it is copied out.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "statedev.h"

#define PIECES	8		/* of which never more than 5 are unread */

struct piece {
	u64 start, length;	/* where its record is; the length of the content after that */
	u64 dirtied;
	u16 kind;
};

struct save {
	struct kref refs;	/* one is the file's, one the device's while the session lasts */
	struct statedev *device;
	struct knobs knobs;
	u64 seed;
	struct mutex reading;
	u8 *scratch;

	spinlock_t lock;	/* for everything below */
	wait_queue_head_t changed;
	struct hrtimer timer;
	struct piece pieces[PIECES];
	unsigned int first, count;
	u64 position, ready, limit;
	u64 initial_end;	/* of what is sent first in PRE_COPY */
	u64 rest;		/* content that only STOP_COPY sends */
	u64 dirtied;		/* of the device's, how much the pieces cover */
	u64 taken_up_at;	/* when PRECOPY_INFO last did so; 0: never */
	u64 last_read;
	bool saving;		/* a chunk is being made */
	bool final;		/* no piece will be added */
	bool ended;
};

/* --- making ---------------------------------------------------------------------------- */

static void add_piece(struct save *s, enum record_kind kind, u64 length)
{
	struct piece *piece = &s->pieces[(s->first + s->count++) % PIECES];

	*piece = (struct piece) { .start = s->limit, .length = length, .dirtied = s->dirtied, .kind = kind };
	s->limit += RECORD_SIZE + length;
}

/* Begins the next chunk, unless one is being made or enough are unread. */
static void make_more(struct save *s)
{
	u64 chunk = s->knobs.chunk_size ?: s->limit - s->ready;

	if (s->ended || s->saving || s->ready == s->limit)
		return;
	if (!s->knobs.chunk_us) {
		s->ready = s->limit;
		wake_up_interruptible(&s->changed);
		return;
	}
	if (DIV64_U64_ROUND_UP(s->ready - s->position, chunk) >= s->knobs.chunks_ahead)
		return;
	s->saving = true;
	hrtimer_start(&s->timer, ns_to_ktime(s->knobs.chunk_us * NSEC_PER_USEC), HRTIMER_MODE_REL);
}

static enum hrtimer_restart chunk_is_made(struct hrtimer *timer)
{
	struct save *s = container_of(timer, struct save, timer);
	unsigned long flags;

	spin_lock_irqsave(&s->lock, flags);
	s->saving = false;
	s->ready = min(s->limit, s->ready + (s->knobs.chunk_size ?: s->limit));
	make_more(s);
	wake_up_interruptible(&s->changed);
	spin_unlock_irqrestore(&s->lock, flags);
	return HRTIMER_NORESTART;
}

/* Adds what the running device has changed, once everything before it has been read. */
static bool take_up_changes(struct save *s)
{
	u64 total = dirt_total(&s->device->dirt), changed = total - s->dirtied;

	if (s->final || s->ended || s->position != s->limit)
		return false;
	changed = s->knobs.resend ? s->knobs.state_size : rounddown(min(changed, s->knobs.state_size), DIRTY_UNIT);
	if (!changed)
		return false;
	s->dirtied = total;
	add_piece(s, RECORD_DATA, changed);
	make_more(s);
	return true;
}

/* --- reading --------------------------------------------------------------------------- */

static u64 lock_and_see(struct save *s, bool *over)
{
	unsigned long flags;
	u64 unread;

	spin_lock_irqsave(&s->lock, flags);
	unread = s->ready - s->position;
	*over = s->ended || (s->final && s->position == s->limit);
	spin_unlock_irqrestore(&s->lock, flags);
	return unread;
}

static bool would_not_wait(struct save *s)
{
	bool over;

	return lock_and_see(s, &over) || over;
}

/* Copies from one piece: its record, or content. Returns how much, 0 if nothing is ready, or an errno. */
static ssize_t copy_some(struct save *s, char __user *to, size_t length)
{
	struct piece piece = {};
	u64 position, n;
	unsigned long flags;

	spin_lock_irqsave(&s->lock, flags);
	position = s->position;
	n = s->ended ? 0 : s->ready - position;
	if (n)
		piece = s->pieces[s->first];
	spin_unlock_irqrestore(&s->lock, flags);
	if (!n)
		return 0;
	if (s->knobs.read_error_at >= position) {
		n = min(n, s->knobs.read_error_at - position);
		if (!n)
			return -EIO;
	}

	n = min3(n, (u64)length, (u64)SCRATCH_SIZE);
	if (position < piece.start + RECORD_SIZE) {
		struct record record = {
			.magic = cpu_to_le32(RECORD_MAGIC), .version = cpu_to_le16(RECORD_VERSION),
			.kind = cpu_to_le16(piece.kind), .length = cpu_to_le64(piece.length),
			.position = cpu_to_le64(piece.start), .seed = cpu_to_le64(s->seed),
			.dirtied = cpu_to_le64(piece.dirtied), .state_size = cpu_to_le64(s->knobs.state_size),
			.profile = cpu_to_le32(s->device->profile->id), .compat = cpu_to_le32(s->knobs.compat),
		};

		n = min(n, piece.start + RECORD_SIZE - position);
		memcpy(s->scratch, (u8 *)&record + (position - piece.start), n);
	} else {
		n = min(n, piece.start + RECORD_SIZE + piece.length - position);
		stream_fill(s->seed, position, s->scratch, n);
	}
	if (copy_to_user(to, s->scratch, n))
		return -EFAULT;

	if (!position)
		log_add(&s->device->log, (struct log_entry) { .begin = ktime_get_ns(), .kind = LOG_FIRST_READ });
	spin_lock_irqsave(&s->lock, flags);
	s->position += n;
	if (s->position == piece.start + RECORD_SIZE + piece.length) {
		s->first = (s->first + 1) % PIECES;
		s->count--;
	}
	s->last_read = ktime_get_ns();
	make_more(s);
	spin_unlock_irqrestore(&s->lock, flags);
	return n;
}

/* What a read does that has found nothing: 1 wait, 2 look again, 0 the end, or an errno. */
static int when_empty(struct save *s, bool nonblock)
{
	int temporary_end = s->knobs.precopy_end_zero ? 0 : -ENOMSG, verdict = nonblock ? -EAGAIN : 1;
	unsigned long flags;

	spin_lock_irqsave(&s->lock, flags);
	if (s->ended)
		verdict = -ENODEV;
	else if (s->ready > s->position)
		verdict = 2;
	else if (s->final && s->position == s->limit)
		verdict = 0;
	else if (!s->final && s->position == s->limit)
		verdict = !s->knobs.info_starts_save && take_up_changes(s) ? 2 : temporary_end;
	else if (!s->final && s->knobs.enomsg_saving)
		verdict = temporary_end;
	spin_unlock_irqrestore(&s->lock, flags);
	return verdict;
}

static ssize_t read_all(struct save *s, char __user *to, size_t length, bool nonblock)
{
	size_t done = 0;
	ssize_t n;
	int verdict;

	while (done < length) {
		n = copy_some(s, to + done, length - done);
		if (n > 0) {
			done += n;
			cond_resched();
			continue;
		}
		if (n < 0)
			return done ?: n;
		if (done && !s->knobs.whole_reads)
			break;
		verdict = when_empty(s, nonblock);
		if (verdict == 2)
			continue;
		if (verdict <= 0)
			return done ?: verdict;
		/* what a read of whole_reads has copied by now is lost */
		if (wait_event_interruptible(s->changed, would_not_wait(s)))
			return -ERESTARTSYS;
	}
	return done;
}

static ssize_t save_read(struct file *file, char __user *to, size_t length, loff_t *ppos)
{
	struct save *s = file->private_data;
	ssize_t ret;

	if (ppos)
		return -ESPIPE;
	if (mutex_lock_interruptible(&s->reading))
		return -ERESTARTSYS;
	ret = pause_us(s->knobs.read_us, TASK_INTERRUPTIBLE);
	if (!ret)
		ret = read_all(s, to, length, s->knobs.pollable && (file->f_flags & O_NONBLOCK));
	mutex_unlock(&s->reading);
	return ret;
}

static __poll_t save_poll(struct file *file, struct poll_table_struct *table)
{
	struct save *s = file->private_data;

	poll_wait(file, &s->changed, table);
	if (READ_ONCE(s->ended))
		return EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
	return would_not_wait(s) ? EPOLLIN | EPOLLRDNORM : 0;
}

/* --- PRECOPY_INFO ---------------------------------------------------------------------- */

static bool is_saving(struct save *s)
{
	unsigned long flags;
	bool saving;

	spin_lock_irqsave(&s->lock, flags);
	saving = s->saving;
	spin_unlock_irqrestore(&s->lock, flags);
	return saving;
}

static void fill_info(struct save *s, struct vfio_precopy_info *info)
{
	u64 cache_ns = s->knobs.info_cache_ms * NSEC_PER_MSEC, now = ktime_get_ns(), dirty;
	unsigned long flags;

	spin_lock_irqsave(&s->lock, flags);
	if (s->knobs.info_starts_save && (!s->taken_up_at || now - s->taken_up_at >= cache_ns) && take_up_changes(s))
		s->taken_up_at = now;
	info->initial_bytes = s->initial_end - min(s->initial_end, s->position);
	dirty = s->limit - max(s->initial_end, s->position);
	/* what has not been taken up yet; with resend it is in the next piece anyway */
	if (!s->knobs.resend)
		dirty += rounddown(min(dirt_total(&s->device->dirt) - s->dirtied, s->knobs.state_size), DIRTY_UNIT);
	info->dirty_bytes = dirty;
	spin_unlock_irqrestore(&s->lock, flags);
}

static int precopy_info(struct save *s, struct vfio_precopy_info *info)
{
	enum vfio_device_mig_state state = s->device->state;
	int ret;

	if (s->ended || (state != VFIO_DEVICE_STATE_PRE_COPY && state != VFIO_DEVICE_STATE_PRE_COPY_P2P))
		return -EINVAL;
	ret = pause_us(s->knobs.info_us, TASK_INTERRUPTIBLE);
	if (!ret && s->knobs.info_starts_save)
		ret = wait_event_interruptible(s->changed, !is_saving(s));
	if (!ret)
		fill_info(s, info);
	return ret;
}

/* Like in a driver that has to ask its device, no arc can begin while this waits. */
static long save_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct save *s = file->private_data;
	struct vfio_precopy_info info = {};
	size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	int ret;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = 0;
	if (mutex_lock_interruptible(&s->device->state_mutex))
		return -ERESTARTSYS;
	ret = precopy_info(s, &info);
	state_unlock(s->device);
	if (!ret && copy_to_user((void __user *)arg, &info, minsz))
		return -EFAULT;
	return ret;
}

/* --- the session's life ---------------------------------------------------------------- */

static void save_free(struct kref *refs)
{
	struct save *s = container_of(refs, struct save, refs);

	hrtimer_cancel(&s->timer);
	vfio_put_device(&s->device->vdev);
	kfree(s->scratch);
	kfree(s);
}

static int save_close(struct inode *inode, struct file *file)
{
	struct save *s = file->private_data;

	kref_put(&s->refs, save_free);
	return 0;
}

static const struct file_operations save_fops = {
	.owner = THIS_MODULE,
	.read = save_read,
	.unlocked_ioctl = save_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = save_close,
};

static const struct file_operations save_pollable_fops = {
	.owner = THIS_MODULE,
	.read = save_read,
	.poll = save_poll,
	.unlocked_ioctl = save_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = save_close,
};

static struct save *save_alloc(struct statedev *sd)
{
	struct save *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);

	if (!s)
		return NULL;
	s->scratch = kmalloc(SCRATCH_SIZE, GFP_KERNEL_ACCOUNT);
	if (!s->scratch) {
		kfree(s);
		return NULL;
	}
	kref_init(&s->refs);
	mutex_init(&s->reading);
	spin_lock_init(&s->lock);
	init_waitqueue_head(&s->changed);
	hrtimer_init(&s->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	s->timer.function = chunk_is_made;
	s->knobs = sd->knobs;
	s->seed = sd->seed;
	s->device = sd;
	get_device(&sd->vdev.device);
	return s;
}

/*
 * The whole stream of a device that does not change has state_size bytes: the first record, content with a record
 * before it in each of the two phases, and the last record.
 */
static void begin_precopy(struct save *s)
{
	u64 size = s->knobs.state_size, initial = min(s->knobs.initial_bytes, size - 2 * RECORD_SIZE);

	s->rest = size - 3 * RECORD_SIZE;
	if (initial > 2 * RECORD_SIZE) {
		add_piece(s, RECORD_DATA, initial - 2 * RECORD_SIZE);
		s->rest = s->knobs.resend ? size : size - initial - 2 * RECORD_SIZE;
	}
	s->initial_end = s->limit;
}

struct file *save_begin(struct statedev *sd, bool precopy)
{
	struct save *s = save_alloc(sd);
	struct file *file;
	unsigned long flags;

	if (!s)
		return ERR_PTR(-ENOMEM);
	file = anon_inode_getfile("statedev_save", s->knobs.pollable ? &save_pollable_fops : &save_fops, s, O_RDONLY);
	if (IS_ERR(file)) {
		kref_put(&s->refs, save_free);
		return file;
	}
	stream_open(file->f_inode, file);
	kref_get(&s->refs);
	sd->save = s;

	spin_lock_irqsave(&s->lock, flags);
	s->dirtied = dirt_total(&sd->dirt);
	add_piece(s, RECORD_HEADER, 0);
	s->ready = s->limit; /* there from the start */
	if (precopy)
		begin_precopy(s);
	else
		s->rest = s->knobs.state_size - 3 * RECORD_SIZE;
	make_more(s);
	spin_unlock_irqrestore(&s->lock, flags);
	if (!precopy)
		save_finish(s);
	return file;
}

/* PRE_COPY or PRE_COPY_P2P -> STOP_COPY: the rest, and what has changed. */
void save_finish(struct save *s)
{
	u64 total, changed;
	unsigned long flags;

	spin_lock_irqsave(&s->lock, flags);
	total = dirt_total(&s->device->dirt);
	changed = s->knobs.resend ? 0 : min(total - s->dirtied, s->knobs.state_size);
	s->dirtied = total;
	add_piece(s, RECORD_DATA, s->rest + changed);
	add_piece(s, RECORD_END, 0);
	s->final = true;
	make_more(s);
	wake_up_interruptible(&s->changed);
	spin_unlock_irqrestore(&s->lock, flags);
}

/* How much there is still to be read, if nothing changes from now on. */
u64 save_left(struct save *s)
{
	unsigned long flags;
	u64 left;

	spin_lock_irqsave(&s->lock, flags);
	left = s->limit - s->position;
	if (!s->final)
		left += s->rest + 2 * RECORD_SIZE +
			(s->knobs.resend ? 0 : min(dirt_total(&s->device->dirt) - s->dirtied, s->knobs.state_size));
	spin_unlock_irqrestore(&s->lock, flags);
	return left;
}

/* From here on the file only fails. Called with state_mutex held. */
void save_end(struct save *s)
{
	struct statedev *sd = s->device;
	u64 position, last_read;
	unsigned long flags;
	bool whole;

	spin_lock_irqsave(&s->lock, flags);
	s->ended = true;
	position = s->position;
	last_read = s->last_read;
	whole = s->final && position == s->limit;
	wake_up_interruptible(&s->changed);
	spin_unlock_irqrestore(&s->lock, flags);
	sd->save = NULL;
	sd->saves += whole;
	if (position)
		log_add(&sd->log,
			(struct log_entry) { .begin = last_read, .bytes = position, .kind = LOG_LAST_READ });
	kref_put(&s->refs, save_free);
}

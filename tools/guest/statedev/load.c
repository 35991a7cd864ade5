// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The session in which state is loaded, and its file: every byte is checked as it arrives, none is kept. What is wrong
 * makes the step RESUMING -> STOP fail; until then writes are accepted, except where a real driver refuses them too.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "statedev.h"

struct load {
	struct kref refs;	/* one is the file's, one the device's while the session lasts */
	struct statedev *device;
	struct knobs knobs;
	bool ended;
	u8 *scratch;

	struct mutex writing;	/* for everything below */
	u64 position;
	struct record record;	/* being collected, or the last one */
	size_t collected;
	u64 left;		/* of its content */
	u64 seed, dirtied, state_size, last_write;
	bool complete, wrong;
	int refusal;		/* what every write returns from now on */
};

/* Judges a whole record. Returns an errno if the write that completed it must fail. */
static int take_record(struct load *l)
{
	const struct record *r = &l->record;
	u64 at = l->position - RECORD_SIZE;

	l->collected = 0;
	l->left = le64_to_cpu(r->length);
	if (le32_to_cpu(r->magic) != RECORD_MAGIC || le16_to_cpu(r->version) != RECORD_VERSION ||
	    le64_to_cpu(r->position) != at || (at && le64_to_cpu(r->seed) != l->seed)) {
		l->wrong = true;
		return 0;
	}
	switch (le16_to_cpu(r->kind)) {
	case RECORD_HEADER:
		l->wrong = at || l->left;
		l->seed = le64_to_cpu(r->seed);
		l->state_size = le64_to_cpu(r->state_size);
		if (le32_to_cpu(r->profile) == l->device->profile->id && le32_to_cpu(r->compat) == l->knobs.compat &&
		    l->state_size >= STATE_SIZE_MIN && l->state_size <= STATE_SIZE_MAX)
			return 0;
		l->wrong = true;
		l->refusal = l->knobs.check_early ? -EINVAL : 0;
		return l->refusal;
	case RECORD_DATA:
		l->wrong = !at;
		return 0;
	case RECORD_END:
		l->wrong = !at || l->left;
		l->complete = !l->wrong;
		l->dirtied = le64_to_cpu(r->dirtied);
		return 0;
	default:
		l->wrong = true;
		return 0;
	}
}

/* Takes all of the bytes, or fails at some point. */
static int take(struct load *l, const u8 *bytes, size_t length)
{
	int ret = 0;

	while (length && !ret) {
		size_t n = length;

		if (l->complete) {
			l->wrong = true;
			l->refusal = -EINVAL; /* a byte too many */
			return l->refusal;
		}
		if (l->wrong) {
			l->position += n;
			return 0;
		}
		if (l->left) {
			n = min_t(u64, n, l->left);
			l->wrong = !stream_matches(l->seed, l->position, bytes, n);
			l->left -= n;
			l->position += n;
		} else {
			n = min(n, RECORD_SIZE - l->collected);
			memcpy((u8 *)&l->record + l->collected, bytes, n);
			l->collected += n;
			l->position += n;
			if (l->collected == RECORD_SIZE)
				ret = take_record(l);
		}
		bytes += n;
		length -= n;
	}
	return ret;
}

static ssize_t write_all(struct load *l, const char __user *from, size_t length)
{
	size_t done = 0;
	int ret = 0;

	if (!l->position && length)
		log_add(&l->device->log, (struct log_entry) { .begin = ktime_get_ns(), .kind = LOG_FIRST_WRITE });
	while (done < length) {
		size_t n = min_t(size_t, length - done, SCRATCH_SIZE);

		if (READ_ONCE(l->ended)) {
			ret = -ENODEV;
			break;
		}
		if (l->knobs.write_error_at >= l->position)
			n = min_t(u64, n, l->knobs.write_error_at - l->position);
		ret = n ? l->refusal : -EIO;
		if (!ret && copy_from_user(l->scratch, from + done, n))
			ret = -EFAULT;
		if (!ret)
			ret = take(l, l->scratch, n);
		if (ret)
			break;
		done += n;
		cond_resched();
	}
	l->last_write = ktime_get_ns();
	return done ?: ret;
}

static ssize_t load_write(struct file *file, const char __user *from, size_t length, loff_t *ppos)
{
	struct load *l = file->private_data;
	ssize_t ret;

	if (ppos)
		return -ESPIPE;
	if (mutex_lock_interruptible(&l->writing))
		return -ERESTARTSYS;
	ret = pause_us(l->knobs.write_us, TASK_INTERRUPTIBLE);
	if (!ret)
		ret = write_all(l, from, length);
	mutex_unlock(&l->writing);
	return ret;
}

static void load_free(struct kref *refs)
{
	struct load *l = container_of(refs, struct load, refs);

	vfio_put_device(&l->device->vdev);
	kfree(l->scratch);
	kfree(l);
}

static int load_close(struct inode *inode, struct file *file)
{
	struct load *l = file->private_data;

	kref_put(&l->refs, load_free);
	return 0;
}

static const struct file_operations load_fops = {
	.owner = THIS_MODULE,
	.write = load_write,
	.release = load_close,
};

struct file *load_begin(struct statedev *sd)
{
	struct load *l = kzalloc(sizeof(*l), GFP_KERNEL_ACCOUNT);
	struct file *file;

	if (!l)
		return ERR_PTR(-ENOMEM);
	kref_init(&l->refs);
	mutex_init(&l->writing);
	l->knobs = sd->knobs;
	l->device = sd;
	get_device(&sd->vdev.device);
	l->scratch = kmalloc(SCRATCH_SIZE, GFP_KERNEL_ACCOUNT);
	file = l->scratch ? anon_inode_getfile("statedev_load", &load_fops, l, O_WRONLY) : ERR_PTR(-ENOMEM);
	if (IS_ERR(file)) {
		kref_put(&l->refs, load_free);
		return file;
	}
	stream_open(file->f_inode, file);
	kref_get(&l->refs);
	sd->load = l;
	return file;
}

/* RESUMING -> STOP. If it fails, the session stays, and only a reset leads out of it. */
int load_finish(struct statedev *sd)
{
	struct load *l = sd->load;
	int ret;

	if (!l)
		return -EINVAL; /* the device was closed since */
	ret = pause_us(l->knobs.load_us, TASK_KILLABLE);
	if (ret)
		return ret;
	mutex_lock(&l->writing);
	if (l->complete && !l->wrong) {
		sd->seed = l->seed;
		sd->knobs.state_size = l->state_size;
		dirt_set(&sd->dirt, l->dirtied);
		sd->generation++;
		sd->loads++;
	} else {
		ret = -EINVAL;
	}
	mutex_unlock(&l->writing);
	if (!ret)
		load_end(l);
	return ret;
}

/* From here on the file only fails. Called with state_mutex held. */
void load_end(struct load *l)
{
	struct statedev *sd = l->device;
	u64 position, last_write;

	WRITE_ONCE(l->ended, true);
	mutex_lock(&l->writing);
	position = l->position;
	last_write = l->last_write;
	mutex_unlock(&l->writing);
	sd->load = NULL;
	if (position)
		log_add(&sd->log,
			(struct log_entry) { .begin = last_write, .bytes = position, .kind = LOG_LAST_WRITE });
	kref_put(&l->refs, load_free);
}

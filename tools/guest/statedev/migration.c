// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The migration states and the arcs between them; resets; how much a running device changes. */
#include <linux/delay.h>
#include <linux/iova_bitmap.h>
#include <linux/random.h>
#include <linux/sched/signal.h>

#include "statedev.h"

const char *const state_names[VFIO_DEVICE_STATE_NR] = {
	[VFIO_DEVICE_STATE_ERROR] = "ERROR",
	[VFIO_DEVICE_STATE_STOP] = "STOP",
	[VFIO_DEVICE_STATE_RUNNING] = "RUNNING",
	[VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
	[VFIO_DEVICE_STATE_RESUMING] = "RESUMING",
	[VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
	[VFIO_DEVICE_STATE_PRE_COPY] = "PRE_COPY",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
};

/* Sleeps in that state; -ERESTARTSYS if a signal came first. */
int pause_us(u64 us, unsigned int state)
{
	ktime_t end = ktime_add_us(ktime_get(), us);

	while (us && ktime_before(ktime_get(), end)) {
		__set_current_state(state);
		if (signal_pending_state(state, current)) {
			__set_current_state(TASK_RUNNING);
			return -ERESTARTSYS;
		}
		schedule_hrtimeout_range(&end, 10 * NSEC_PER_USEC, HRTIMER_MODE_ABS);
	}
	return 0;
}

/* --- what a running device changes ------------------------------------------------------ */

static void dirt_catch_up(struct dirt *dirt)
{
	u64 now = ktime_get_ns();

	if (dirt->running && dirt->rate) {
		u64 us = div_u64(now - dirt->since, NSEC_PER_USEC);

		dirt->bytes += mul_u64_u64_div_u64(us, dirt->rate, USEC_PER_SEC);
		dirt->since += us * NSEC_PER_USEC;
	} else {
		dirt->since = now;
	}
}

u64 dirt_total(struct dirt *dirt)
{
	unsigned long flags;
	u64 bytes;

	spin_lock_irqsave(&dirt->lock, flags);
	dirt_catch_up(dirt);
	bytes = dirt->bytes;
	spin_unlock_irqrestore(&dirt->lock, flags);
	return bytes;
}

void dirt_set(struct dirt *dirt, u64 bytes)
{
	unsigned long flags;

	spin_lock_irqsave(&dirt->lock, flags);
	dirt_catch_up(dirt);
	dirt->bytes = bytes;
	spin_unlock_irqrestore(&dirt->lock, flags);
}

/* The device runs from now on, or it does not, as it should in that state. */
void dirt_run(struct statedev *sd, u8 state)
{
	struct dirt *dirt = &sd->dirt;
	unsigned long flags;

	spin_lock_irqsave(&dirt->lock, flags);
	dirt_catch_up(dirt);
	dirt->rate = sd->knobs.dirty_rate;
	dirt->running = state == VFIO_DEVICE_STATE_RUNNING || state == VFIO_DEVICE_STATE_PRE_COPY;
	spin_unlock_irqrestore(&dirt->lock, flags);
}

/* --- reset ------------------------------------------------------------------------------ */

void statedev_end_sessions(struct statedev *sd)
{
	if (sd->save)
		save_end(sd->save);
	if (sd->load)
		load_end(sd->load);
}

static void become_fresh(struct statedev *sd)
{
	statedev_end_sessions(sd);
	sd->state = VFIO_DEVICE_STATE_RUNNING;
	sd->seed = get_random_u64();
	sd->generation++;
	sd->resets++;
	dirt_set(&sd->dirt, 0);
	dirt_run(sd, sd->state);
	config_reset(sd);
	log_add(&sd->log, (struct log_entry) { .begin = ktime_get_ns(), .kind = LOG_RESET });
}

/*
 * Unlocks state_mutex. A reset never waits for an arc: if one is under way, whoever holds the mutex resets the device
 * afterwards. A reset that is wanted just after the check here finds the mutex free, or is seen by the loop.
 */
void state_unlock(struct statedev *sd)
{
	do {
		if (test_and_clear_bit(0, &sd->reset_wanted))
			become_fresh(sd);
		mutex_unlock(&sd->state_mutex);
		smp_mb(); /* between mutex and bit; pairs with the one in statedev_reset() */
	} while (test_bit(0, &sd->reset_wanted) && mutex_trylock(&sd->state_mutex));
}

void statedev_reset(struct statedev *sd)
{
	set_bit(0, &sd->reset_wanted);
	smp_mb__after_atomic(); /* between bit and mutex; pairs with the one in state_unlock() */
	if (mutex_trylock(&sd->state_mutex))
		state_unlock(sd);
}

/* --- arcs ------------------------------------------------------------------------------- */

static bool is_precopy(u8 state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY || state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static bool is_saving_group(u8 state)
{
	return is_precopy(state) || state == VFIO_DEVICE_STATE_STOP_COPY;
}

/* What an arc does to the session, after it has taken its time. */
static struct file *change_session(struct statedev *sd, u8 next)
{
	if (sd->state == VFIO_DEVICE_STATE_RESUMING)
		return ERR_PTR(load_finish(sd));
	if (next == VFIO_DEVICE_STATE_RESUMING)
		return load_begin(sd);
	if (is_saving_group(next) && !is_saving_group(sd->state))
		return save_begin(sd, is_precopy(next));
	if (is_precopy(sd->state) && next == VFIO_DEVICE_STATE_STOP_COPY) {
		if (!sd->save)
			return ERR_PTR(-EINVAL); /* the device was closed since, so nobody could read the state */
		save_finish(sd->save);
	} else if (is_saving_group(sd->state) && !is_saving_group(next) && sd->save) {
		save_end(sd->save);
	}
	return NULL;
}

static struct file *take_arc(struct statedev *sd, u8 next)
{
	bool fails = sd->knobs.fail.from == sd->state && sd->knobs.fail.to == next;
	struct log_entry entry = { .kind = LOG_ARC, .from = sd->state, .to = next, .begin = ktime_get_ns() };
	struct file *file;
	int ret = pause_us(sd->knobs.arc_us[sd->state][next], TASK_KILLABLE);

	if (!ret && fails)
		ret = -sd->knobs.fail.error;
	if (ret) {
		file = ERR_PTR(ret);
	} else {
		dirt_run(sd, next); /* first, so that what is sent last includes every change */
		file = change_session(sd, next);
	}
	entry.result = PTR_ERR_OR_ZERO(file);
	if (!entry.result)
		sd->state = next;
	else if (fails && sd->knobs.fail.breaks)
		sd->state = VFIO_DEVICE_STATE_ERROR;
	if (sd->state == VFIO_DEVICE_STATE_ERROR)
		statedev_end_sessions(sd);
	dirt_run(sd, sd->state);
	entry.end = ktime_get_ns();
	log_add(&sd->log, entry);
	return file;
}

static struct file *set_state(struct vfio_device *vdev, enum vfio_device_mig_state wanted)
{
	struct statedev *sd = to_statedev(vdev);
	enum vfio_device_mig_state next;
	struct file *file = NULL;
	int ret;

	mutex_lock(&sd->state_mutex);
	while (!IS_ERR(file) && sd->state != wanted) {
		ret = vfio_mig_get_next_state(vdev, sd->state, wanted, &next);
		file = ret ? ERR_PTR(ret) : take_arc(sd, next);
	}
	state_unlock(sd);
	return file;
}

static int get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	struct statedev *sd = to_statedev(vdev);

	mutex_lock(&sd->state_mutex);
	*state = sd->state;
	state_unlock(sd);
	return 0;
}

static int get_data_size(struct vfio_device *vdev, unsigned long *length)
{
	struct statedev *sd = to_statedev(vdev);

	mutex_lock(&sd->state_mutex);
	*length = sd->save ? save_left(sd->save) : sd->knobs.state_size;
	state_unlock(sd);
	return 0;
}

const struct vfio_migration_ops statedev_mig_ops = {
	.migration_set_state = set_state,
	.migration_get_state = get_state,
	.migration_get_data_size = get_data_size,
};

/* --- DMA logging: the device does no DMA, so it never has anything to report ---------------- */

static int log_start(struct vfio_device *vdev, struct rb_root_cached *ranges, u32 nnodes, u64 *page_size)
{
	struct statedev *sd = to_statedev(vdev);
	int ret = 0;

	mutex_lock(&sd->state_mutex);
	if (sd->dma_logging)
		ret = -EINVAL;
	sd->dma_logging = true;
	state_unlock(sd);
	return ret;
}

static int log_stop(struct vfio_device *vdev)
{
	struct statedev *sd = to_statedev(vdev);

	mutex_lock(&sd->state_mutex);
	sd->dma_logging = false;
	state_unlock(sd);
	return 0;
}

static int log_read_and_clear(struct vfio_device *vdev, unsigned long iova, unsigned long length,
			      struct iova_bitmap *dirty)
{
	struct statedev *sd = to_statedev(vdev);
	int ret;

	mutex_lock(&sd->state_mutex);
	ret = sd->dma_logging ? 0 : -EINVAL;
	state_unlock(sd);
	return ret;
}

const struct vfio_log_ops statedev_log_ops = {
	.log_start = log_start,
	.log_stop = log_stop,
	.log_read_and_clear = log_read_and_clear,
};

// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What tests see of a device in sysfs, and its knobs, which can be turned while no session is open. */
#include <linux/ctype.h>
#include <linux/sysfs.h>

#include "statedev.h"

static struct statedev *locked(struct device *dev)
{
	struct statedev *sd = dev_get_drvdata(dev);

	mutex_lock(&sd->state_mutex);
	return sd;
}

/* --- the device ------------------------------------------------------------------------ */

static ssize_t profile_show(struct device *dev, struct device_attribute *attr, char *page)
{
	struct statedev *sd = dev_get_drvdata(dev);

	return sysfs_emit(page, "%s\n", sd->profile->type.sysfs_name);
}
static DEVICE_ATTR_RO(profile);

static ssize_t migration_state_show(struct device *dev, struct device_attribute *attr, char *page)
{
	struct statedev *sd = locked(dev);
	ssize_t ret = sysfs_emit(page, "%s\n", state_names[sd->state]);

	state_unlock(sd);
	return ret;
}
static DEVICE_ATTR_RO(migration_state);

static ssize_t dirtied_show(struct device *dev, struct device_attribute *attr, char *page)
{
	struct statedev *sd = dev_get_drvdata(dev);

	return sysfs_emit(page, "%llu\n", dirt_total(&sd->dirt));
}
static DEVICE_ATTR_RO(dirtied);

static ssize_t seed_show(struct device *dev, struct device_attribute *attr, char *page)
{
	struct statedev *sd = locked(dev);
	ssize_t ret = sysfs_emit(page, "%016llx\n", sd->seed);

	state_unlock(sd);
	return ret;
}

static ssize_t seed_store(struct device *dev, struct device_attribute *attr, const char *text, size_t length)
{
	struct statedev *sd;
	int ret;
	u64 seed;

	ret = kstrtou64(text, 16, &seed);
	if (ret)
		return ret;
	sd = locked(dev);
	if (sd->save || sd->load)
		ret = -EBUSY;
	else
		sd->seed = seed;
	state_unlock(sd);
	return ret ?: length;
}
static DEVICE_ATTR_RW(seed);

static ssize_t log_file_show(struct device *dev, struct device_attribute *attr, char *page)
{
	struct statedev *sd = dev_get_drvdata(dev);

	return log_show(&sd->log, page);
}

/* Whatever is written empties the log. */
static ssize_t log_file_store(struct device *dev, struct device_attribute *attr, const char *text, size_t length)
{
	struct statedev *sd = dev_get_drvdata(dev);

	log_clear(&sd->log);
	return length;
}
static struct device_attribute dev_attr_log = __ATTR(log, 0644, log_file_show, log_file_store);

#define COUNTER(name)										\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *page)	\
{												\
	struct statedev *sd = locked(dev);							\
	ssize_t ret = sysfs_emit(page, "%llu\n", sd->name);					\
												\
	state_unlock(sd);									\
	return ret;										\
}												\
static DEVICE_ATTR_RO(name)

COUNTER(generation);
COUNTER(resets);
COUNTER(loads);
COUNTER(saves);

static struct attribute *device_attrs[] = {
	&dev_attr_profile.attr, &dev_attr_migration_state.attr, &dev_attr_seed.attr, &dev_attr_dirtied.attr,
	&dev_attr_generation.attr, &dev_attr_resets.attr, &dev_attr_loads.attr, &dev_attr_saves.attr,
	&dev_attr_log.attr, NULL,
};
static const struct attribute_group device_group = { .attrs = device_attrs };

/* --- knobs that are numbers ------------------------------------------------------------- */

struct knob {
	struct device_attribute attr;
	size_t offset;
	u64 min, max;
};

static u64 *value_of(struct knobs *knobs, const struct knob *knob)
{
	return (u64 *)((u8 *)knobs + knob->offset);
}

static ssize_t knob_show(struct device *dev, struct device_attribute *attr, char *page)
{
	const struct knob *knob = container_of(attr, struct knob, attr);
	struct statedev *sd = locked(dev);
	u64 value = *value_of(&sd->knobs, knob);

	state_unlock(sd);
	return value == NOWHERE ? sysfs_emit(page, "none\n") : sysfs_emit(page, "%llu\n", value);
}

static int parse(const struct knob *knob, const char *text, u64 *value)
{
	int ret;

	if (knob->max == NOWHERE && sysfs_streq(text, "none")) {
		*value = NOWHERE;
		return 0;
	}
	ret = kstrtou64(text, 0, value);
	if (ret)
		return ret;
	return *value < knob->min || *value > knob->max ? -ERANGE : 0;
}

/* The flags are the VFIO core's, too, which looks at them without a lock while the device is open. */
static int turn(struct statedev *sd, const struct knob *knob, u64 value)
{
	bool flags = knob->offset == offsetof(struct knobs, flags);

	if (sd->save || sd->load || (flags && sd->opened))
		return -EBUSY;
	if (flags && (sd->state != VFIO_DEVICE_STATE_RUNNING || !(value & VFIO_MIGRATION_STOP_COPY)))
		return -EINVAL;
	*value_of(&sd->knobs, knob) = value;
	sd->vdev.migration_flags = sd->knobs.flags;
	dirt_run(sd, sd->state);
	return 0;
}

static ssize_t knob_store(struct device *dev, struct device_attribute *attr, const char *text, size_t length)
{
	const struct knob *knob = container_of(attr, struct knob, attr);
	struct statedev *sd;
	int ret;
	u64 value;

	ret = parse(knob, text, &value);
	if (ret)
		return ret;
	sd = locked(dev);
	ret = turn(sd, knob, value);
	state_unlock(sd);
	return ret ?: length;
}

#define KNOB(name, at_least, at_most)						\
static struct knob knob_##name = {						\
	.attr = __ATTR(name, 0644, knob_show, knob_store),			\
	.offset = offsetof(struct knobs, name),					\
	.min = at_least,							\
	.max = at_most,								\
}

#define US_MAX	(60ULL * USEC_PER_SEC)

KNOB(flags, 1, 7);
KNOB(state_size, STATE_SIZE_MIN, STATE_SIZE_MAX);
KNOB(initial_bytes, 0, STATE_SIZE_MAX);
KNOB(dirty_rate, 0, 1ULL << 40);
KNOB(resend, 0, 1);
KNOB(chunk_size, 0, STATE_SIZE_MAX);
KNOB(chunk_us, 0, US_MAX);
KNOB(chunks_ahead, 1, 64);
KNOB(read_us, 0, US_MAX);
KNOB(write_us, 0, US_MAX);
KNOB(load_us, 0, US_MAX);
KNOB(pollable, 0, 1);
KNOB(whole_reads, 0, 1);
KNOB(precopy_end_zero, 0, 1);
KNOB(enomsg_saving, 0, 1);
KNOB(info_us, 0, US_MAX);
KNOB(info_starts_save, 0, 1);
KNOB(info_cache_ms, 0, 60000);
KNOB(check_early, 0, 1);
KNOB(compat, 0, U32_MAX);
KNOB(read_error_at, 0, NOWHERE);
KNOB(write_error_at, 0, NOWHERE);

/* --- knobs about arcs -------------------------------------------------------------------- */

/* The next word of a text, cut off in place; NULL after the last. */
static char *next_word(char **text)
{
	char *word = skip_spaces(*text), *end = word;

	while (*end && !isspace(*end))
		end++;
	*text = *end ? end + 1 : end;
	*end = 0;
	return *word ? word : NULL;
}

static int next_state(char **text)
{
	const char *word = next_word(text);

	return word ? match_string(state_names, VFIO_DEVICE_STATE_NR, word) : -EINVAL;
}

/* "FROM TO NUMBER": two states, and a number up to "most". */
static int parse_arc(char **text, int *from, int *to, u64 most, u64 *number)
{
	const char *word;
	int ret;

	*from = next_state(text);
	*to = next_state(text);
	word = next_word(text);
	if (*from < 0 || *to < 0 || !word)
		return -EINVAL;
	ret = kstrtou64(word, 0, number);
	return ret ?: *number > most ? -ERANGE : 0;
}

static ssize_t arc_us_show(struct device *dev, struct device_attribute *attr, char *page)
{
	struct statedev *sd = locked(dev);
	int from, to, at = 0;

	for (from = 0; from < VFIO_DEVICE_STATE_NR; from++)
		for (to = 0; to < VFIO_DEVICE_STATE_NR; to++)
			if (sd->knobs.arc_us[from][to])
				at += sysfs_emit_at(page, at, "%s %s %u\n", state_names[from], state_names[to],
						    sd->knobs.arc_us[from][to]);
	state_unlock(sd);
	return at;
}

/* "FROM TO MICROSECONDS", or "none" for all of them. */
static int turn_arc_us(struct statedev *sd, char *text)
{
	int from, to, ret;
	u64 us;

	if (sysfs_streq(text, "none")) {
		memset(sd->knobs.arc_us, 0, sizeof(sd->knobs.arc_us));
		return 0;
	}
	ret = parse_arc(&text, &from, &to, US_MAX, &us);
	if (!ret)
		sd->knobs.arc_us[from][to] = us;
	return ret;
}

static ssize_t fail_arc_show(struct device *dev, struct device_attribute *attr, char *page)
{
	struct statedev *sd = locked(dev);
	typeof(sd->knobs.fail) fail = sd->knobs.fail;

	state_unlock(sd);
	if (fail.from == fail.to)
		return sysfs_emit(page, "none\n");
	return sysfs_emit(page, "%s %s %d%s\n", state_names[fail.from], state_names[fail.to], fail.error,
			  fail.breaks ? " ERROR" : "");
}

/* "FROM TO ERRNO", with "ERROR" after it if the device breaks, or "none". */
static int turn_fail_arc(struct statedev *sd, char *text)
{
	const char *word;
	int from, to, ret;
	u64 error;

	memset(&sd->knobs.fail, 0, sizeof(sd->knobs.fail));
	if (sysfs_streq(text, "none"))
		return 0;
	ret = parse_arc(&text, &from, &to, MAX_ERRNO, &error);
	if (ret || from == to || !error)
		return ret ?: -EINVAL;
	word = next_word(&text);
	if (word && strcmp(word, "ERROR"))
		return -EINVAL;
	sd->knobs.fail.from = from;
	sd->knobs.fail.to = to;
	sd->knobs.fail.error = error;
	sd->knobs.fail.breaks = word;
	return 0;
}

static ssize_t turn_by_text(struct device *dev, const char *text, size_t length,
			    int (*turn)(struct statedev *sd, char *text))
{
	char *copy = kstrndup(text, length, GFP_KERNEL);
	struct statedev *sd;
	int ret;

	if (!copy)
		return -ENOMEM;
	sd = locked(dev);
	ret = sd->save || sd->load ? -EBUSY : turn(sd, copy);
	state_unlock(sd);
	kfree(copy);
	return ret ?: length;
}

static ssize_t arc_us_store(struct device *dev, struct device_attribute *attr, const char *text, size_t length)
{
	return turn_by_text(dev, text, length, turn_arc_us);
}
static DEVICE_ATTR_RW(arc_us);

static ssize_t fail_arc_store(struct device *dev, struct device_attribute *attr, const char *text, size_t length)
{
	return turn_by_text(dev, text, length, turn_fail_arc);
}
static DEVICE_ATTR_RW(fail_arc);

#define NUMBER(name)	(&knob_##name.attr.attr)

static struct attribute *knob_attrs[] = {
	NUMBER(flags), NUMBER(state_size), NUMBER(initial_bytes), NUMBER(dirty_rate), NUMBER(resend),
	NUMBER(chunk_size), NUMBER(chunk_us), NUMBER(chunks_ahead), NUMBER(read_us), NUMBER(write_us),
	NUMBER(load_us), NUMBER(pollable), NUMBER(whole_reads), NUMBER(precopy_end_zero), NUMBER(enomsg_saving),
	NUMBER(info_us), NUMBER(info_starts_save), NUMBER(info_cache_ms), NUMBER(check_early), NUMBER(compat),
	NUMBER(read_error_at), NUMBER(write_error_at),
	&dev_attr_arc_us.attr, &dev_attr_fail_arc.attr, NULL,
};
static const struct attribute_group knob_group = { .name = "knobs", .attrs = knob_attrs };

const struct attribute_group *statedev_groups[] = { &device_group, &knob_group, NULL };

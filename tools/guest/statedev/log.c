// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What happened when: the last few entries, for whoever measures. */
#include <linux/sysfs.h>

#include "statedev.h"

void log_add(struct log *log, struct log_entry entry)
{
	unsigned long flags;

	spin_lock_irqsave(&log->lock, flags);
	log->entries[log->count++ % LOG_ENTRIES] = entry;
	spin_unlock_irqrestore(&log->lock, flags);
}

void log_clear(struct log *log)
{
	unsigned long flags;

	spin_lock_irqsave(&log->lock, flags);
	log->count = 0;
	spin_unlock_irqrestore(&log->lock, flags);
}

static int show(const struct log_entry *e, char *page, int at)
{
	static const char *const names[] = {
		[LOG_FIRST_READ] = "first-read", [LOG_LAST_READ] = "last-read", [LOG_FIRST_WRITE] = "first-write",
		[LOG_LAST_WRITE] = "last-write", [LOG_RESET] = "reset",
	};

	if (e->kind == LOG_ARC)
		return sysfs_emit_at(page, at, "%llu %llu arc %s %s %d\n", e->begin, e->end,
				     state_names[e->from], state_names[e->to], e->result);
	return sysfs_emit_at(page, at, "%llu %llu %s %llu\n", e->begin, e->end, names[e->kind], e->bytes);
}

ssize_t log_show(struct log *log, char *page)
{
	unsigned int i, first;
	unsigned long flags;
	int at = 0;

	spin_lock_irqsave(&log->lock, flags);
	first = log->count > LOG_ENTRIES ? log->count - LOG_ENTRIES : 0;
	for (i = first; i < log->count; i++)
		at += show(&log->entries[i % LOG_ENTRIES], page, at);
	spin_unlock_irqrestore(&log->lock, flags);
	return at;
}

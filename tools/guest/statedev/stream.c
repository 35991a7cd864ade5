// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Content: the 8 bytes at each multiple of 8 in the stream follow from the seed and that place, so nothing has to be
 * kept, and content that is lost, repeated or in the wrong place differs from what it should be.
 */
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/unaligned.h>

#include "statedev.h"

static u64 word(u64 seed, u64 index)
{
	u64 x = seed + index * 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ULL;
	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ULL;
	return x ^ (x >> 32);
}

/* The bytes up to the next multiple of 8, no more than there are. */
static size_t piece(u64 position, size_t length)
{
	return min_t(size_t, 8 - (position & 7), length);
}

void stream_fill(u64 seed, u64 position, u8 *to, size_t length)
{
	while (length) {
		u64 value = word(seed, position >> 3);
		size_t n = piece(position, length);

		if (n == 8) {
			put_unaligned_le64(value, to);
		} else {
			__le64 bytes = cpu_to_le64(value);

			memcpy(to, (u8 *)&bytes + (position & 7), n);
		}
		position += n;
		to += n;
		length -= n;
	}
}

bool stream_matches(u64 seed, u64 position, const u8 *bytes, size_t length)
{
	u64 wrong = 0;

	while (length) {
		u64 value = word(seed, position >> 3);
		size_t n = piece(position, length);

		if (n == 8) {
			wrong |= value ^ get_unaligned_le64(bytes);
		} else {
			__le64 expected = cpu_to_le64(value);

			wrong |= memcmp(bytes, (u8 *)&expected + (position & 7), n);
		}
		position += n;
		bytes += n;
		length -= n;
	}
	return !wrong;
}

// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The drivers that a device can behave like. Sizes are smaller than those of real devices where only the emulated
 * machine's time would be spent; times are of the order that real devices need.
 */
#include "statedev.h"

#define MIG_ALL		(VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY)

#define STATE(name)	VFIO_DEVICE_STATE_##name
#define ARC(from, to, us)	[STATE(from)][STATE(to)] = (us)

#define NO_ERRORS	.read_error_at = NOWHERE, .write_error_at = NOWHERE

/* A network card: firmware makes large chunks, and only when asked; reads are cheap, arcs and writes are not. */
static struct profile mlx5 = {
	.type = { .sysfs_name = "mlx5", .pretty_name = "behaves like mlx5-vfio-pci" },
	.id = 1,
	.knobs = {
		NO_ERRORS,
		.flags = MIG_ALL,
		.state_size = SZ_64M,
		.initial_bytes = 56 * SZ_1M,
		.dirty_rate = 4 * SZ_1M,
		.chunk_size = SZ_8M,
		.chunk_us = 2000,
		.chunks_ahead = 2,
		.write_us = 200,
		.load_us = 2000,
		.pollable = 1,
		.enomsg_saving = 1,
		.info_us = 300,
		.info_starts_save = 1,
		.arc_us = {
			ARC(RUNNING, PRE_COPY, 1000),
			ARC(RUNNING, RUNNING_P2P, 500),
			ARC(RUNNING_P2P, RUNNING, 500),
			ARC(PRE_COPY, PRE_COPY_P2P, 500),
			ARC(PRE_COPY_P2P, PRE_COPY, 500),
			ARC(PRE_COPY_P2P, STOP_COPY, 1500),
			ARC(RUNNING_P2P, STOP, 500),
			ARC(STOP, RUNNING_P2P, 500),
			ARC(STOP, STOP_COPY, 1000),
			ARC(STOP, RESUMING, 1000),
		},
	},
};

/* An accelerator: registers, matched at the destination before the source stops. No P2P. */
static struct profile hisi = {
	.type = { .sysfs_name = "hisi", .pretty_name = "behaves like hisi_acc_vfio_pci" },
	.id = 2,
	.knobs = {
		NO_ERRORS,
		.flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY,
		.state_size = SZ_4K,
		.initial_bytes = RECORD_SIZE,
		.precopy_end_zero = 1,
		.check_early = 1,
		.load_us = 1000,
		.arc_us = {
			ARC(RUNNING, STOP, 1000),
			ARC(PRE_COPY, STOP_COPY, 1000),
			ARC(STOP, RUNNING, 500),
		},
	},
};

/* An accelerator: one page, of which the setup is sent and judged first. */
static struct profile qat = {
	.type = { .sysfs_name = "qat", .pretty_name = "behaves like qat_vfio_pci" },
	.id = 3,
	.knobs = {
		NO_ERRORS,
		.flags = MIG_ALL,
		.state_size = SZ_4K,
		.initial_bytes = 512,
		.precopy_end_zero = 1,
		.check_early = 1,
		.load_us = 500,
		.arc_us = { ARC(RUNNING, RUNNING_P2P, 1000), ARC(PRE_COPY, PRE_COPY_P2P, 1000) },
	},
};

/* A network card that only stops and copies: the time goes into the arcs. */
static struct profile pds = {
	.type = { .sysfs_name = "pds", .pretty_name = "behaves like pds-vfio-pci" },
	.id = 4,
	.knobs = {
		NO_ERRORS,
		.flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
		.state_size = SZ_64K,
		.load_us = 20000,
		.arc_us = {
			ARC(RUNNING, RUNNING_P2P, 5000),
			ARC(RUNNING_P2P, STOP, 5000),
			ARC(STOP, STOP_COPY, 20000),
			ARC(STOP, RUNNING_P2P, 5000),
			ARC(RUNNING_P2P, RUNNING, 5000),
		},
	},
};

/* A virtio device's parts: sent as a whole, again and again, but no more than once a second. */
static struct profile virtio = {
	.type = { .sysfs_name = "virtio", .pretty_name = "behaves like virtio-vfio-pci" },
	.id = 5,
	.knobs = {
		NO_ERRORS,
		.flags = MIG_ALL,
		.state_size = SZ_256K,
		.initial_bytes = SZ_256K,
		.resend = 1,
		.info_us = 200,
		.info_starts_save = 1,
		.info_cache_ms = 1000,
		.load_us = 500,
		.arc_us = {
			ARC(RUNNING, PRE_COPY, 500),
			ARC(PRE_COPY_P2P, STOP_COPY, 500),
			ARC(STOP, STOP_COPY, 500),
		},
	},
};

/* A GPU: video memory, produced ahead into a ring; reads are all or nothing. No pre-copy. */
static struct profile xe = {
	.type = { .sysfs_name = "xe", .pretty_name = "behaves like xe-vfio-pci" },
	.id = 6,
	.knobs = {
		NO_ERRORS,
		.flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
		.state_size = SZ_256M,
		.chunk_size = SZ_32M,
		.chunk_us = 5000,
		.chunks_ahead = 5,
		.whole_reads = 1,
		.load_us = 2000,
		.arc_us = {
			ARC(RUNNING, RUNNING_P2P, 5000),
			ARC(STOP, RUNNING_P2P, 2000),
			ARC(STOP, STOP_COPY, 2000),
			ARC(STOP, RESUMING, 2000),
		},
	},
};

/* What the interface describes, without any time. */
static struct profile plain = {
	.type = { .sysfs_name = "plain", .pretty_name = "behaves as the interface describes" },
	.id = 7,
	.knobs = {
		NO_ERRORS,
		.flags = MIG_ALL,
		.state_size = SZ_1M,
		.initial_bytes = SZ_512K,
		.pollable = 1,
	},
};

struct mdev_type *statedev_types[] = {
	&mlx5.type, &hisi.type, &qat.type, &pds.type, &virtio.type, &xe.type, &plain.type,
};
const unsigned int statedev_types_count = ARRAY_SIZE(statedev_types);

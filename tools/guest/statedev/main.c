// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * statedev - mediated VFIO devices with state that is made up, for tests of programs that migrate devices. Each mdev type
 * behaves like one of the kernel's drivers. Everything about a device can be changed through sysfs: see README.md.
 */
#include <linux/module.h>
#include <linux/random.h>

#include "statedev.h"

static int statedev_probe(struct mdev_device *mdev)
{
	struct statedev *sd = vfio_alloc_device(statedev, vdev, &mdev->dev, &statedev_ops);
	int ret;

	if (IS_ERR(sd))
		return PTR_ERR(sd);
	sd->profile = container_of(mdev->type, struct profile, type);
	sd->knobs = sd->profile->knobs;
	sd->state = VFIO_DEVICE_STATE_RUNNING;
	sd->seed = get_random_u64();
	sd->generation = 1;
	dirt_run(sd, sd->state);
	config_reset(sd);
	sd->vdev.mig_ops = &statedev_mig_ops;
	sd->vdev.log_ops = &statedev_log_ops;
	sd->vdev.migration_flags = sd->knobs.flags;
	dev_set_drvdata(&mdev->dev, sd);
	ret = vfio_register_emulated_iommu_dev(&sd->vdev);
	if (ret)
		vfio_put_device(&sd->vdev);
	return ret;
}

/* Waits until the device is closed. Its data files may stay open: each has a reference. */
static void statedev_remove(struct mdev_device *mdev)
{
	struct statedev *sd = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&sd->vdev);
	vfio_put_device(&sd->vdev);
}

static ssize_t statedev_description(struct mdev_type *type, char *page)
{
	return sysfs_emit(page, "%s\n", type->pretty_name);
}

static struct mdev_driver statedev_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.max_instances = 64,
	.driver = {
		.name = "statedev",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = statedev_groups,
	},
	.probe = statedev_probe,
	.remove = statedev_remove,
	.show_description = statedev_description,
};

static struct class *statedev_class;
static struct device *statedev_parent;
static struct mdev_parent statedev_mdev_parent;

static int __init statedev_load(void)
{
	int ret = mdev_register_driver(&statedev_driver);

	if (ret)
		return ret;
	statedev_class = class_create("statedev");
	if (IS_ERR(statedev_class)) {
		ret = PTR_ERR(statedev_class);
		goto no_class;
	}
	statedev_parent = device_create(statedev_class, NULL, MKDEV(0, 0), NULL, "statedev");
	if (IS_ERR(statedev_parent)) {
		ret = PTR_ERR(statedev_parent);
		goto no_parent;
	}
	ret = mdev_register_parent(&statedev_mdev_parent, statedev_parent, &statedev_driver, statedev_types,
				   statedev_types_count);
	if (!ret)
		return 0;

	device_unregister(statedev_parent);
no_parent:
	class_destroy(statedev_class);
no_class:
	mdev_unregister_driver(&statedev_driver);
	return ret;
}

static void __exit statedev_unload(void)
{
	mdev_unregister_parent(&statedev_mdev_parent);
	device_unregister(statedev_parent);
	class_destroy(statedev_class);
	mdev_unregister_driver(&statedev_driver);
}

module_init(statedev_load);
module_exit(statedev_unload);

MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("VFIO devices for tests, with migratable state that is made up");
MODULE_AUTHOR("The ringlift authors");

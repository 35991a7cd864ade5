// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The VFIO device apart from its migration: a PCI function without BARs and interrupts, of which a machine sees a config space. */
#include <linux/pci_regs.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>

#include "statedev.h"

#define REGION_SHIFT	40	/* region N is at offset N << 40 */
#define VENDOR		0x5344
#define DEVICE_BASE	0x0100
#define CLASS_OTHER	0xff

void config_reset(struct statedev *sd)
{
	u8 *config = sd->config;

	mutex_lock(&sd->config_mutex);
	memset(config, 0, CONFIG_SIZE);
	put_unaligned_le16(VENDOR, config + PCI_VENDOR_ID);
	put_unaligned_le16(DEVICE_BASE + sd->profile->id, config + PCI_DEVICE_ID);
	config[PCI_REVISION_ID] = 1;
	config[PCI_CLASS_DEVICE + 1] = CLASS_OTHER;
	put_unaligned_le16(VENDOR, config + PCI_SUBSYSTEM_VENDOR_ID);
	put_unaligned_le16(sd->profile->id, config + PCI_SUBSYSTEM_ID);
	mutex_unlock(&sd->config_mutex);
}

/* Which bits of a byte can be written: in the command register, the cache line size and the interrupt line. */
static u8 writable(unsigned int at)
{
	switch (at) {
	case PCI_COMMAND:
		return PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY;
	case PCI_COMMAND + 1:
		return (PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE) >> 8;
	case PCI_CACHE_LINE_SIZE:
	case PCI_LATENCY_TIMER:
	case PCI_INTERRUPT_LINE:
		return 0xff;
	default:
		return 0;
	}
}

/* The part of the config space that an access means; -EINVAL if it means none. */
static ssize_t config_range(loff_t position, size_t length, unsigned int *at)
{
	u64 offset = position & ((1ULL << REGION_SHIFT) - 1);

	if (position < 0 || position >> REGION_SHIFT != VFIO_PCI_CONFIG_REGION_INDEX || offset >= CONFIG_SIZE)
		return -EINVAL;
	*at = offset;
	return min_t(u64, length, CONFIG_SIZE - offset);
}

static ssize_t statedev_read(struct vfio_device *vdev, char __user *to, size_t length, loff_t *position)
{
	struct statedev *sd = to_statedev(vdev);
	unsigned int at = 0;
	ssize_t n = config_range(*position, length, &at);

	if (n <= 0)
		return n;
	mutex_lock(&sd->config_mutex);
	if (copy_to_user(to, sd->config + at, n))
		n = -EFAULT;
	mutex_unlock(&sd->config_mutex);
	if (n > 0)
		*position += n;
	return n;
}

static ssize_t statedev_write(struct vfio_device *vdev, const char __user *from, size_t length, loff_t *position)
{
	struct statedev *sd = to_statedev(vdev);
	unsigned int at = 0;
	ssize_t i, n = config_range(*position, length, &at);
	u8 bytes[CONFIG_SIZE];

	if (n <= 0)
		return n;
	if (copy_from_user(bytes, from, n))
		return -EFAULT;
	mutex_lock(&sd->config_mutex);
	for (i = 0; i < n; i++) {
		u8 mask = writable(at + i), *byte = &sd->config[at + i];

		*byte = (*byte & ~mask) | (bytes[i] & mask);
	}
	mutex_unlock(&sd->config_mutex);
	*position += n;
	return n;
}

static long get_info(void __user *arg)
{
	struct vfio_device_info info;
	size_t minsz = offsetofend(struct vfio_device_info, num_irqs);

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long get_region_info(void __user *arg)
{
	struct vfio_region_info info;
	size_t minsz = offsetofend(struct vfio_region_info, offset);

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info.flags = 0;
	info.cap_offset = 0;
	info.size = 0;
	info.offset = (u64)info.index << REGION_SHIFT;
	if (info.index == VFIO_PCI_CONFIG_REGION_INDEX) {
		info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
		info.size = CONFIG_SIZE;
	}
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long get_irq_info(void __user *arg)
{
	struct vfio_irq_info info;
	size_t minsz = offsetofend(struct vfio_irq_info, count);

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.flags = 0;
	info.count = 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long statedev_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return get_info((void __user *)arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return get_region_info((void __user *)arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return get_irq_info((void __user *)arg);
	case VFIO_DEVICE_SET_IRQS:
		return -EINVAL; /* there are none */
	case VFIO_DEVICE_RESET:
		statedev_reset(to_statedev(vdev));
		return 0;
	default:
		return -ENOTTY;
	}
}

static int statedev_open(struct vfio_device *vdev)
{
	struct statedev *sd = to_statedev(vdev);

	mutex_lock(&sd->state_mutex);
	sd->opened = true;
	state_unlock(sd);
	return 0;
}

/* The device keeps its state and its migration state, as the kernel's sample driver does; its files end. */
static void statedev_close(struct vfio_device *vdev)
{
	struct statedev *sd = to_statedev(vdev);

	mutex_lock(&sd->state_mutex);
	statedev_end_sessions(sd);
	sd->dma_logging = false;
	sd->opened = false;
	state_unlock(sd);
}

/* No page is ever pinned. */
static void statedev_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
}

static int statedev_init(struct vfio_device *vdev)
{
	struct statedev *sd = to_statedev(vdev);

	mutex_init(&sd->state_mutex);
	mutex_init(&sd->config_mutex);
	spin_lock_init(&sd->dirt.lock);
	spin_lock_init(&sd->log.lock);
	return 0;
}

static void statedev_release(struct vfio_device *vdev)
{
	struct statedev *sd = to_statedev(vdev);

	mutex_destroy(&sd->config_mutex);
	mutex_destroy(&sd->state_mutex);
}

const struct vfio_device_ops statedev_ops = {
	.name = "statedev",
	.init = statedev_init,
	.release = statedev_release,
	.open_device = statedev_open,
	.close_device = statedev_close,
	.read = statedev_read,
	.write = statedev_write,
	.ioctl = statedev_ioctl,
	.dma_unmap = statedev_dma_unmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

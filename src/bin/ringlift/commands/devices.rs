//! `ringlift devices`.

use ringlift::vfio::{self, Listed, Migration};

use super::probe;
use crate::args::Devices;
use crate::exit::Exit;
use crate::show::table::Table;
use crate::show::units::bytes;
use crate::show::{output, warnings};

/// Lists the devices of this host, or probes one.
pub(crate) fn run(args: &Devices) -> Exit {
    match &args.probe {
        Some(device) => probe::run(device, args.json.as_ref()).unwrap_or_else(|exit| exit),
        None => list(),
    }
}

fn list() -> Exit {
    let devices = vfio::list();
    if devices.is_empty() {
        warnings::warning(
            warnings::NO_DEVICES,
            "this host has no VFIO device",
            "bind one to its vfio driver (vfio-pci, or a vendor's that can migrate), or create an mdev",
        );
        return Exit::Complete;
    }
    output::result(&table(&devices));
    Exit::Complete
}

fn table(devices: &[Listed]) -> String {
    let header = ["path", "driver", "group", "node", "migration", "stop-copy size"];
    let mut table = Table::new(&header).words(header.len() - 1);
    for device in devices {
        let (migration, size) = migration(&device.migration);
        table.row([
            device.path.display().to_string(),
            or_dash(device.driver.clone()),
            or_dash(device.group.map(|group| group.to_string())),
            or_dash(device.cdev.as_ref().map(|cdev| cdev.display().to_string())),
            migration,
            size,
        ]);
    }
    table.to_string()
}

fn migration(migration: &Migration) -> (String, String) {
    match migration {
        Migration::Supported { features, stop_copy_size } => {
            (features.to_string(), or_dash(stop_copy_size.map(bytes)))
        }
        Migration::Unsupported => ("no: this driver does not migrate".to_owned(), or_dash(None)),
        Migration::InUse => ("unknown: in use".to_owned(), or_dash(None)),
        Migration::Unknown(error) => (format!("unknown: {error}"), or_dash(None)),
    }
}

fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash_and_the_reason_is_shown() {
        let device = Listed {
            path: "/sys/devices/virtual/mtty/mtty/83b8f4f2".into(),
            name: "83b8f4f2".to_owned(),
            driver: None,
            group: Some(7),
            cdev: None,
            migration: Migration::InUse,
        };
        assert_eq!(
            table(&[device]),
            "path                                      driver   group   node   migration         stop-copy size\n\
             /sys/devices/virtual/mtty/mtty/83b8f4f2   -        7       -      unknown: in use                -\n"
        );
    }
}

//! `ringlift qemu extract`.

use ringlift::qemu;
use ringlift::qemu::capture::{self, Device, Inspection};
use ringlift::{Cancel, Finished, Outcome};

use crate::args::{DeviceId, Extract};
use crate::ends::{Named, SinkSpec};
use crate::exit::Exit;
use crate::files;
use crate::show::progress::Progress;
use crate::show::{output, results, warnings};
use crate::signals;

/// Loads one device.
pub(crate) fn run(args: &Extract) -> Exit {
    extract(args).unwrap_or_else(|exit| exit)
}

fn extract(args: &Extract) -> Result<Exit, Exit> {
    check(args)?;
    let inspection = capture::inspect(&args.paths);
    if !inspection.is_ok() {
        return Err(broken(&inspection));
    }
    let device = find(&inspection, &args.device)?;
    let name = device.id.to_string();
    let sink = Named { name: name.clone(), end: args.to.clone() };
    let sink = sink.open().map_err(|error| warnings::error(&error))?;
    let (cancel, progress) = (Cancel::new(), Progress::new(false));
    signals::cancel_on_signals(&cancel, &progress)?;
    let shown = progress.clone();
    let finished = qemu::Extract::new(&inspection, device, sink)
        .cancel(&cancel)
        .on_event(move |event| shown.show(event))
        .run();
    progress.end();
    if finished.outcome == Outcome::Complete {
        let text = summary(&name, device, &finished);
        // stdout may be the device
        if args.to == SinkSpec::Fd(1) { output::say(text.trim_end()) } else { output::result(&text) }
    }
    Ok(results::complain(&finished))
}

/// Refuses to write over what it reads.
fn check(args: &Extract) -> Result<(), Exit> {
    let Some(to) = args.to.path() else { return Ok(()) };
    match args.paths.iter().find(|path| files::overwrites(&to, path)) {
        None => Ok(()),
        Some(path) => {
            let text = format!("{} would overwrite the capture in {}", to.display(), path.display());
            Err(warnings::usage(&text, "name another file with --to"))
        }
    }
}

fn broken(inspection: &Inspection) -> Exit {
    for error in &inspection.errors {
        warnings::failure(&error.to_string(), None);
    }
    warnings::failure(
        "the capture is not whole: nothing was extracted",
        Some("`ringlift qemu inspect` shows what is there"),
    );
    Exit::Failed
}

fn find<'a>(inspection: &'a Inspection, wanted: &DeviceId) -> Result<&'a Device, Exit> {
    let DeviceId { idstr, instance } = wanted;
    inspection.device(idstr, *instance).ok_or_else(|| {
        let text = match instance {
            0 => format!("the capture has no device {idstr}"),
            instance => format!("the capture has no device {idstr}#{instance}"),
        };
        let known: Vec<_> = inspection.devices.iter().map(|device| device.id.to_string()).collect();
        match known[..] {
            [] => warnings::usage(&text, "it has no device at all"),
            _ => warnings::usage(&text, &format!("it has {}", known.join(", "))),
        }
    })
}

fn summary(name: &str, device: &Device, finished: &Finished) -> String {
    format!(
        "{name}: {} bytes of pre-copy, {} of data, {} of config state, in {} pieces\n",
        device.precopy_bytes(),
        device.data_bytes(),
        device.config_bytes(),
        finished.report.packets,
    )
}

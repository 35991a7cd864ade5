//! Shows pages of `ringlift report --html` to a real Chromium, and looks for what a reader would see go wrong: nothing is
//! logged, every plot is drawn, nothing is cut off, and the page never scrolls sideways. Speaks WebDriver with a
//! chromedriver that runs already; `tools/test page` starts it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const USAGE: &str = "\
usage: page PORT CHROMIUM FOLDER PAGE...     checks pages with the chromedriver that listens on PORT; PNG pictures, and an
                                             empty folder for the browser's profile, are made in FOLDER";

/// A loaded machine takes its time to start a browser.
const PATIENCE: Duration = Duration::from_secs(120);

/// The ways a page is looked at: name, medium, colour scheme, width.
const VIEWS: [(&str, &str, &str, u32); 6] = [
    ("laptop-light", "screen", "light", 1280),
    ("laptop-dark", "screen", "dark", 1280),
    ("phone-light", "screen", "light", 400),
    ("phone-dark", "screen", "dark", 400),
    // what fits between the margins of A4
    ("print", "print", "light", 680),
    ("print-of-dark", "print", "dark", 680),
];

/// Returns what is wrong, as sentences.
const LOOK: &str = r#"
const faults = [];
const name = e => e.tagName + (e.id ? '#' + e.id : '') + ' "' + (e.textContent || '').trim().slice(0, 40) + '"';
if (document.documentElement.scrollWidth > innerWidth)
  faults.push('the page is ' + document.documentElement.scrollWidth + ' wide');
for (const e of document.querySelectorAll('body *')) {
  if (e.closest('.scroll table') || e.closest('svg svg') || e.closest('defs') || e.closest('.patterns')) continue;
  const r = e.getBoundingClientRect();
  if (r.width && (r.right > innerWidth + 1 || r.left < -1)) faults.push(name(e) + ' lies outside the page');
}
const plots = document.querySelectorAll('svg.plot');
if (!plots.length) faults.push('there is no plot');
for (const plot of plots) {
  const r = plot.getBoundingClientRect();
  if (r.width < 200 || r.height < 40) faults.push(plot.id + ' is only ' + r.width + ' by ' + r.height);
  if (!plot.querySelector('title').textContent) faults.push(plot.id + ' has no title');
  if (!plot.querySelector('desc').textContent) faults.push(plot.id + ' has no description');
  const drawn = [...plot.querySelectorAll('path, rect')].filter(e => {
    const style = getComputedStyle(e);
    return (style.fill !== 'none' || style.stroke !== 'none') && e.getBoundingClientRect().height > 0;
  });
  if (!drawn.length) faults.push(plot.id + ' shows nothing');
  const texts = [...plot.querySelectorAll('text')].map(e => [e, e.getBoundingClientRect()]);
  texts.forEach(([e, t], at) => {
    if (t.left < r.left - 1 || t.right > r.right + 1 || t.top < r.top - 1 || t.bottom > r.bottom + 1)
      faults.push(name(e) + ' is cut off in ' + plot.id);
    for (const [other, o] of texts.slice(at + 1))
      if (t.left < o.right && o.left < t.right && t.top + 3 < o.bottom && o.top + 3 < t.bottom)
        faults.push(name(e) + ' covers ' + name(other) + ' in ' + plot.id);
  });
}
const rgb = text => text.match(/[\d.]+/g).slice(0, 3).map(Number).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
const light = c => .2126 * c[0] + .7152 * c[1] + .0722 * c[2];
const contrast = (a, b) => { const [x, y] = [light(rgb(a)), light(rgb(b))]; return (Math.max(x, y) + .05) / (Math.min(x, y) + .05); };
const paper = getComputedStyle(document.body).backgroundColor;
for (const e of document.querySelectorAll('p, th, td, a, summary, caption, dt, dd, li, h1, h2, h3')) {
  const c = contrast(getComputedStyle(e).color, paper);
  if (c < 4.5) { faults.push(name(e) + ' has a contrast of ' + c.toFixed(1)); break; }
}
return faults;
"#;

fn main() -> ExitCode {
    let typed: Vec<String> = std::env::args().skip(1).collect();
    let [port, chromium, folder, pages @ ..] = typed.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(port, chromium, Path::new(folder), pages) {
        Ok((passed, faults)) => {
            faults.iter().for_each(|fault| println!("{fault}"));
            println!("{passed} passed, {} failed", faults.len());
            if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("page: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The views without a fault, and the faults.
fn run(
    port: &str,
    chromium: &str,
    folder: &Path,
    pages: &[String],
) -> Result<(usize, Vec<String>), Box<dyn Error>> {
    let browser = Browser::start(port, chromium, folder)?;
    let looked = look(&browser, folder, pages);
    // whatever happened, no browser stays behind
    browser.end()?;
    looked
}

fn look(browser: &Browser, folder: &Path, pages: &[String]) -> Result<(usize, Vec<String>), Box<dyn Error>> {
    let (mut passed, mut faults) = (0, Vec::new());
    for page in pages {
        let page: PathBuf = fs::canonicalize(page)?;
        let stem = page.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        for (view, medium, scheme, width) in VIEWS {
            let found = browser.view(&page, medium, scheme, width)?;
            browser.picture(&folder.join(format!("{stem}-{view}.png")), width)?;
            passed += usize::from(found.is_empty());
            faults.extend(found.iter().map(|fault| format!("{stem}, {view}: {fault}")));
        }
    }
    Ok((passed, faults))
}

/// A session with chromedriver.
struct Browser {
    port: u16,
    session: String,
}

impl Browser {
    fn start(port: &str, chromium: &str, folder: &Path) -> Result<Browser, Box<dyn Error>> {
        let port: u16 = port.parse()?;
        let profile = fs::canonicalize(folder)?.join("profile");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let options = json!({"binary": chromium, "args": arguments});
        let wanted = json!({"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": options});
        let started = call(port, "POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}))?;
        let session = started["sessionId"].as_str().ok_or("chromedriver names no session")?.to_owned();
        Ok(Browser { port, session })
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Box<dyn Error>> {
        call(self.port, "POST", &format!("/session/{}/{path}", self.session), body)
    }

    fn chromium(&self, command: &str, parameters: &Value) -> Result<Value, Box<dyn Error>> {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Opens a page and returns what is wrong with it.
    fn view(
        &self,
        page: &Path,
        medium: &str,
        scheme: &str,
        width: u32,
    ) -> Result<Vec<String>, Box<dyn Error>> {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.chromium("Emulation.setEmulatedMedia", &json!({"media": medium, "features": features}))?;
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.chromium("Emulation.setDeviceMetricsOverride", &size)?;
        self.post("url", &json!({"url": format!("file://{}", page.display())}))?;
        let found = self.post("execute/sync", &json!({"script": LOOK, "args": []}))?;
        let logged = self.post("se/log", &json!({"type": "browser"}))?;
        let texts = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let logged = texts(&logged).into_iter().map(|line| format!("logged: {}", line["message"]));
        Ok(texts(&found).iter().map(|fault| fault.to_string()).chain(logged).collect())
    }

    /// The whole page as a picture.
    fn picture(&self, path: &Path, width: u32) -> Result<(), Box<dyn Error>> {
        let script = json!({"script": "return document.documentElement.scrollHeight", "args": []});
        let height = self.post("execute/sync", &script)?.as_u64().unwrap_or(900);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let wanted = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.chromium("Page.captureScreenshot", &wanted)?;
        let data = picture["data"].as_str().ok_or("there is no picture")?;
        Ok(fs::write(path, STANDARD.decode(data)?)?)
    }

    fn end(self) -> Result<(), Box<dyn Error>> {
        call(self.port, "DELETE", &format!("/session/{}", self.session), &Value::Null).map(drop)
    }
}

/// One command of WebDriver; what it returns.
fn call(port: u16, method: &str, path: &str, body: &Value) -> Result<Value, Box<dyn Error>> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        connection,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let body = body_of(BufReader::new(connection))?;
    let value = serde_json::from_slice::<Value>(&body)?["value"].take();
    match value.get("error") {
        Some(error) => Err(format!("{path}: {error}: {}", value["message"]).into()),
        None => Ok(value),
    }
}

/// The body of an HTTP answer: its length is in the head, and the connection stays open.
fn body_of(mut answer: impl BufRead) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if answer.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body)?;
    Ok(body)
}

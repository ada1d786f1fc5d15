//! One page in a [`Chrome`](super::chrome::Chrome), used as a person uses it: real clicks, real keys, what is seen.
//!
//! An uncaught exception or a breach of the content security policy fails the test at the next step.

use std::{cell::RefCell, fs, path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    devtools::{DevTools, Event},
    wait::{DEADLINE, poll},
};

pub struct Page {
    devtools: DevTools,
    session: String,
    target: String,
    /// What the page wrote to its console, and what the browser said about it.
    log: RefCell<Vec<String>>,
    errors: RefCell<Vec<String>>,
}

impl Page {
    pub(super) async fn adopt(devtools: DevTools, session: String, target: String) -> Self {
        let page = Self { devtools, session, target, log: RefCell::default(), errors: RefCell::default() };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page
    }

    /// Sets the size of the view, in CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) {
        let phone = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Runs `script` in every document of this page before its own scripts.
    pub async fn before_load(&self, script: &str) {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    pub async fn goto(&self, url: &str) {
        // A change of the fragment alone would not load anything.
        self.call("Page.navigate", json!({ "url": "about:blank" })).await;
        let navigated = self.call("Page.navigate", json!({ "url": url })).await;
        assert_eq!(navigated.get("errorText"), None, "{url}");
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    /// What a person does with F5.
    pub async fn reload(&self) {
        self.eval::<bool>("window.beforeReload = true").await;
        self.call("Page.reload", json!({})).await;
        self.wait_for("!window.beforeReload && document.readyState === 'complete'").await;
    }

    /// The value of a JavaScript expression; promises are awaited.
    pub async fn eval<T: DeserializeOwned>(&self, expression: &str) -> T {
        let value = self.try_eval(expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"));
        self.check();
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{expression} is {value}: {error}"))
    }

    /// Waits until a JavaScript condition holds.
    pub async fn wait_for(&self, condition: &str) {
        self.wait_for_at_most(condition, DEADLINE).await;
    }

    pub async fn wait_for_at_most(&self, condition: &str, deadline: Duration) {
        let asked = format!("!!({condition})");
        let mut last = Ok(Value::Null);
        let held = poll(deadline, async || {
            self.check();
            // A page that is being replaced cannot be asked; its successor can.
            last = self.try_eval(&asked).await;
            matches!(last, Ok(Value::Bool(true))).then_some(())
        })
        .await;
        if held.is_none() {
            panic!("waited {deadline:?} for\n  {condition}\nat last {last:?} {}", self.situation().await);
        }
    }

    /// Waits until the element is there, at rest, enabled and not covered, and clicks its middle with the mouse.
    /// Returns the place.
    pub async fn click(&self, selector: &str) -> (f64, f64) {
        let (x, y) = self.point_at(selector).await;
        self.mouse(x, y, 1).await;
        (x, y)
    }

    /// Clicks a place, whatever is there.
    pub async fn click_at(&self, (x, y): (f64, f64)) {
        self.mouse(x, y, 1).await;
    }

    /// Chooses an option of a select.
    pub async fn choose(&self, selector: &str, value: &str) {
        self.wait_visible(selector).await;
        let choose = "((select, value) => {
            select.value = value;
            for (const name of ['input', 'change']) select.dispatchEvent(new Event(name, { bubbles: true }));
            return select.value === value;
        })";
        let select = format!("document.querySelector({})", quoted(selector));
        let chosen: bool = self.eval(&format!("{choose}({select}, {})", quoted(value))).await;
        assert!(chosen, "{selector} has no option {value}");
    }

    /// Two clicks as fast as a hand can.
    pub async fn double_click(&self, selector: &str) {
        let (x, y) = self.point_at(selector).await;
        self.mouse(x, y, 1).await;
        self.mouse(x, y, 2).await;
    }

    /// Clicks into a field and types.
    pub async fn type_text(&self, selector: &str, text: &str) {
        self.click(selector).await;
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses Enter.
    pub async fn enter(&self) {
        let key = json!({ "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" });
        for kind in ["keyDown", "keyUp"] {
            let mut key = key.clone();
            key["type"] = kind.into();
            self.call("Input.dispatchKeyEvent", key).await;
        }
    }

    /// The text of the first element that matches.
    pub async fn text(&self, selector: &str) -> String {
        self.eval(&format!("document.querySelector({})?.textContent.trim() ?? ''", quoted(selector))).await
    }

    /// Waits until the element is there and a person can see it.
    pub async fn wait_visible(&self, selector: &str) {
        let selector = quoted(selector);
        let visible = "{ checkOpacity: true, checkVisibilityCSS: true }";
        self.wait_for(&format!("document.querySelector({selector})?.checkVisibility({visible})")).await;
    }

    /// Saves what the page shows as a PNG.
    pub async fn screenshot(&self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let png = STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64");
        fs::write(file, png).expect("the screenshot can be written");
    }

    /// Cuts the page off from the network, or lets it back on.
    pub async fn offline(&self, offline: bool) {
        let conditions = json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
        self.call("Network.emulateNetworkConditions", conditions).await;
    }

    /// Lines that the page wrote to its console so far.
    pub fn console(&self) -> Vec<String> {
        self.collect();
        self.log.borrow().clone()
    }

    /// Uncaught exceptions so far; taking them means that the test expected them.
    pub fn take_errors(&self) -> Vec<String> {
        self.collect();
        self.errors.take()
    }

    /// Closes the window.
    pub async fn close(self) {
        self.check();
        self.devtools.call("Target.closeTarget", json!({ "targetId": self.target })).await;
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let called = self.devtools.call_session(&self.session, method, params).await;
        called.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_eval(&self, expression: &str) -> Result<Value, String> {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": false,
        });
        let mut answer = self.devtools.call_session(&self.session, "Runtime.evaluate", params).await?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(describe(details)),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    async fn mouse(&self, x: f64, y: f64, count: u32) {
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let buttons = u32::from(kind == "mousePressed");
            let event =
                json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": count });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// The middle of an element that a person could click now.
    async fn point_at(&self, selector: &str) -> (f64, f64) {
        let find = POINT.replace("SELECTOR", &quoted(selector));
        let mut found = Value::Null;
        let point = poll(DEADLINE, async || {
            self.check();
            found = self.try_eval(&find).await.unwrap_or_else(Value::String);
            Some((found["x"].as_f64()?, found["y"].as_f64()?))
        })
        .await;
        match point {
            Some(point) => point,
            None => panic!("{selector} cannot be clicked: {found} {}", self.situation().await),
        }
    }

    /// What one would look at when a test has failed here.
    async fn situation(&self) -> String {
        const SEEN: &str =
            "location.pathname + ' shows: ' + document.body.innerText.replace(/\\s+/g, ' ').slice(0, 600)";
        let seen = self.try_eval(SEEN).await.map_or_else(|error| error, |seen| seen.to_string());
        format!("at {seen}\nconsole:\n  {}", self.console().join("\n  "))
    }

    /// Fails the test when the page has failed.
    fn check(&self) {
        self.collect();
        let errors = self.errors.borrow();
        assert!(errors.is_empty(), "the page failed:\n{}", errors.join("\n"));
    }

    fn collect(&self) {
        for event in self.devtools.events(&self.session) {
            match report(&event) {
                Some(Report::Error(text)) => self.errors.borrow_mut().push(text),
                Some(Report::Line(text)) => self.log.borrow_mut().push(text),
                None => {}
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The last steps of a test are checked too, unless it is failing already.
        if !std::thread::panicking() {
            self.check();
        }
    }
}

enum Report {
    Error(String),
    Line(String),
}

fn report(event: &Event) -> Option<Report> {
    let params = &event.params;
    match event.method.as_str() {
        "Runtime.exceptionThrown" => Some(Report::Error(describe(&params["exceptionDetails"]))),
        "Runtime.consoleAPICalled" => {
            let words = params["args"].as_array()?.iter();
            let words: Vec<String> = words.map(|word| plain(word.get("value").or(word.get("description")))).collect();
            Some(Report::Line(format!("{}: {}", plain(params.get("type")), words.join(" "))))
        }
        "Log.entryAdded" => {
            let entry = &params["entry"];
            let line =
                format!("{}: {} {}", plain(entry.get("source")), plain(entry.get("text")), plain(entry.get("url")));
            Some(if entry["source"] == "security" { Report::Error(line) } else { Report::Line(line) })
        }
        _ => None,
    }
}

/// An exception with the place that it came from.
fn describe(details: &Value) -> String {
    let thrown = details["exception"].get("description").or(details["exception"].get("value"));
    let at = format!("{}:{}", plain(details.get("url")), details["lineNumber"]);
    format!("{} {} ({at})", plain(details.get("text")), plain(thrown))
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A JavaScript string literal.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

const POINT: &str = r"(async () => {
    const element = document.querySelector(SELECTOR);
    if (!element) return 'not there';
    if (element.disabled) return 'disabled';
    element.scrollIntoView({ block: 'nearest', inline: 'nearest', behavior: 'instant' });
    const before = element.getBoundingClientRect();
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const now = element.getBoundingClientRect();
    if (!now.width || !now.height) return 'without a size';
    if (before.x !== now.x || before.y !== now.y) return 'moving';
    // One that has not been given its first frame yet stands still.
    const moves = (animation) => animation.playState !== 'finished' && animation.effect?.target?.contains(element);
    if (document.getAnimations().some(moves)) return 'animated';
    const x = now.x + now.width / 2;
    const y = now.y + now.height / 2;
    const hit = document.elementFromPoint(x, y);
    if (!element.contains(hit)) return 'covered by ' + (hit?.outerHTML.slice(0, 120));
    return { x, y };
})()";

//! A server of completions on loopback that says what its prompt and seed decide, and misbehaves when
//! it is told to.

#![allow(dead_code, reason = "each test binary uses a part of it")]

mod http;
mod speech;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Whose server it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vllm,
    Sglang,
    LlamaCpp,
    /// Takes text only, cuts stop strings off and does not name them, knows no `top_k`.
    Plain,
}

/// What it does with a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Status 429 with this `Retry-After`.
    Busy(&'static str),
    /// This status.
    Status(u16),
    /// Nothing for so long, then the answer.
    Slow(Duration),
    /// A whole head and a half of the body, then the end of the connection.
    Half,
    /// A body of JSON that ends in the middle, sent as a whole.
    Torn,
    /// The end of the connection instead of an answer.
    Reset,
    /// An answer with so many choices.
    Choices(usize),
    /// Ids of another text.
    WrongIds,
}

/// A way in which it always does something else than it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// Completions get this status, and everything else is answered.
    Denies(u16),
    /// No answer has more tokens than this.
    Caps(usize),
    /// Stop strings are in no id, in no text, and not named.
    HidesStops,
    /// Every token is the most probable one.
    Greedy,
}

pub(crate) struct State {
    kind: Kind,
    quirk: Mutex<Option<Quirk>>,
    model: Mutex<String>,
    /// Acts of the next completions; then it behaves.
    acts: Mutex<VecDeque<Act>>,
    /// Added to the time of every completion.
    delay: Mutex<Duration>,
    key: Mutex<Option<String>>,
    completions: AtomicUsize,
    /// Completions that are being answered, and the most there were.
    busy: AtomicUsize,
    most_busy: AtomicUsize,
    /// Bodies of completions, as they came.
    bodies: Mutex<Vec<serde_json::Value>>,
    keeps_bodies: AtomicBool,
    /// Connections by number, those that have ended left out.
    open: Mutex<BTreeMap<usize, TcpStream>>,
    dead: AtomicBool,
}

/// A server; it is gone with this.
pub(crate) struct Server {
    address: SocketAddr,
    listens: Mutex<Option<JoinHandle<()>>>,
    pub(crate) state: Arc<State>,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            kind,
            quirk: Mutex::default(),
            model: Mutex::new("babbler".to_owned()),
            acts: Mutex::default(),
            delay: Mutex::default(),
            key: Mutex::default(),
            completions: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            most_busy: AtomicUsize::new(0),
            bodies: Mutex::default(),
            keeps_bodies: AtomicBool::new(false),
            open: Mutex::default(),
            dead: AtomicBool::new(false),
        });
        let server = Self {
            address,
            listens: Mutex::default(),
            state,
        };
        server.listen(listener);
        server
    }

    fn listen(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        let listens = thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { continue };
                if state.dead.load(Ordering::SeqCst) {
                    return;
                }
                let kept = stream.try_clone().expect("a clone");
                state.open.lock().expect("streams").insert(number, kept);
                let state = Arc::clone(&state);
                thread::spawn(move || {
                    http::serve(&stream, &state);
                    state.open.lock().expect("streams").remove(&number);
                });
            }
        });
        *self.listens.lock().expect("the thread") = Some(listens);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it will do with its next completions.
    pub(crate) fn acts(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.acts.lock().expect("acts").extend(acts);
    }

    /// Has this quirk from now on, or none.
    pub(crate) fn quirk(&self, quirk: Option<Quirk>) {
        *self.state.quirk.lock().expect("the quirk") = quirk;
    }

    /// Behaves from now on.
    pub(crate) fn forget_acts(&self) {
        self.state.acts.lock().expect("acts").clear();
    }

    pub(crate) fn delay(&self, delay: Duration) {
        *self.state.delay.lock().expect("the delay") = delay;
    }

    /// Asks for this key from now on.
    pub(crate) fn lock(&self, key: &str) {
        *self.state.key.lock().expect("the key") = Some(key.to_owned());
    }

    /// Serves a model of this name.
    pub(crate) fn rename(&self, model: &str) {
        *self.state.model.lock().expect("the model") = model.to_owned();
    }

    pub(crate) fn keep_bodies(&self) {
        self.state.keeps_bodies.store(true, Ordering::SeqCst);
    }

    pub(crate) fn bodies(&self) -> Vec<serde_json::Value> {
        self.state.bodies.lock().expect("bodies").clone()
    }

    /// Completions it was asked for.
    pub(crate) fn completions(&self) -> usize {
        self.state.completions.load(Ordering::SeqCst)
    }

    pub(crate) fn most_busy(&self) -> usize {
        self.state.most_busy.load(Ordering::SeqCst)
    }

    /// Ends all connections, and takes none.
    pub(crate) fn die(&self) {
        self.state.dead.store(true, Ordering::SeqCst);
        // The thread that listens has to notice.
        let _ = TcpStream::connect(self.address);
        if let Some(listens) = self.listens.lock().expect("the thread").take() {
            listens.join().expect("it ends");
        }
        for stream in self.state.open.lock().expect("streams").values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Is there again, at the same address.
    pub(crate) fn rise(&self) {
        let bind = || TcpListener::bind(self.address);
        let mut listener = bind();
        while listener.is_err() {
            thread::sleep(Duration::from_millis(5));
            listener = bind();
        }
        self.state.dead.store(false, Ordering::SeqCst);
        self.listen(listener.expect("the port"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.die();
    }
}

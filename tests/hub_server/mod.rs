//! A hub on this machine: the part of huggingface.co's protocol that pulling and pushing use, with a
//! second address for large content, and with faults on demand.

#![allow(dead_code, reason = "each test file uses a part of the hub")]

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use sha1::Sha1;
use sha2::{Digest, Sha256};

mod http;
mod routes;

/// The token that the hub knows.
pub(crate) const TOKEN: &str = "hf_canaryCanaryCANARY0123456789";

/// A running hub. It ends when it is dropped.
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    listeners: Vec<(String, JoinHandle<()>)>,
}

/// What a hub holds and has seen.
#[derive(Default)]
pub(crate) struct State {
    /// By path in the API, such as `models/owner/name`.
    pub(crate) repos: BTreeMap<String, Repository>,
    /// Large content by SHA-256.
    pub(crate) storage: BTreeMap<String, Vec<u8>>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) endpoint: String,
    pub(crate) content: String,
}

/// A repository.
#[derive(Default)]
pub(crate) struct Repository {
    pub(crate) private: bool,
    pub(crate) gated: bool,
    pub(crate) commits: Vec<Commit>,
    /// Names that the listing has though there is no such file.
    pub(crate) names: Vec<String>,
}

/// What a repository held at one time.
#[derive(Clone, Default)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) message: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// What goes wrong with requests whose path holds `path`, so many times.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) path: &'static str,
    pub(crate) times: usize,
    pub(crate) act: Act,
}

/// How it goes wrong.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Act {
    /// Answers this status, with this header.
    Status(u16, &'static str),
    /// Sends so many bytes of the content and hangs up.
    Truncate(usize),
    /// Changes the last byte.
    Change,
    /// Sends the whole content when a part is asked for.
    WholeAlways,
    /// Sends slowly.
    Slow,
    /// Somebody else commits just before.
    Overtake,
}

/// A request and what was answered.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whether it came to the address for large content.
    pub(crate) content: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) status: u16,
    pub(crate) bytes: usize,
}

impl Hub {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let over = Arc::new(AtomicBool::new(false));
        let mut listeners = Vec::new();
        let sockets: Vec<TcpListener> = (0..2)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let address = |socket: &TcpListener| socket.local_addr().expect("an address").to_string();
        let addresses: Vec<String> = sockets.iter().map(address).collect();
        {
            let mut state = state.lock().expect("the state");
            state.endpoint = format!("http://{}", addresses[0]);
            state.content = format!("http://{}", addresses[1]);
        }
        for (index, socket) in sockets.into_iter().enumerate() {
            let (state, over) = (Arc::clone(&state), Arc::clone(&over));
            let thread = std::thread::spawn(move || {
                for stream in socket.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let state = Arc::clone(&state);
                    let stream = stream.expect("a connection");
                    std::thread::spawn(move || http::serve(stream, &state, index == 1));
                }
            });
            listeners.push((addresses[index].clone(), thread));
        }
        Self {
            endpoint: format!("http://{}", addresses[0]),
            state,
            over,
            listeners,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the state")
    }

    /// Adds a commit with these files to a repository, which is made if needed.
    pub(crate) fn commit(&self, repo: &str, files: &[(&str, &[u8])]) -> String {
        let mut state = self.state();
        for (name, content) in files {
            if is_large(name) {
                state.storage.insert(sha256(content), content.to_vec());
            }
        }
        let files = files
            .iter()
            .map(|(name, content)| (name.to_string(), content.to_vec()));
        let repo = state.repos.entry(repo.to_owned()).or_default();
        repo.commit("by hand", files.collect())
    }

    /// From now on this goes wrong.
    pub(crate) fn fault(&self, path: &'static str, times: usize, act: Act) {
        self.state().faults.push(Fault { path, times, act });
    }

    /// Forgets what was seen and what goes wrong.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.seen.clear();
        state.faults.clear();
    }

    /// Bytes of content that were served.
    pub(crate) fn served(&self) -> usize {
        let content = |seen: &&Seen| {
            seen.method == "GET" && seen.status < 300 && !seen.path.starts_with("/api/")
        };
        self.state()
            .seen
            .iter()
            .filter(content)
            .map(|seen| seen.bytes)
            .sum()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for (address, thread) in self.listeners.drain(..) {
            // Wakes the listener up.
            let _ = TcpStream::connect(address);
            let _ = thread.join();
        }
    }
}

impl Repository {
    pub(crate) fn commit(&mut self, message: &str, files: BTreeMap<String, Vec<u8>>) -> String {
        let mut hash = Sha1::new_with_prefix(format!("{}", self.commits.len()));
        for (name, content) in &files {
            hash.update(name);
            hash.update(content);
        }
        let id = hex(&hash.finalize());
        self.commits.push(Commit {
            id: id.clone(),
            message: message.to_owned(),
            files,
        });
        id
    }

    pub(crate) fn newest(&self) -> &Commit {
        self.commits.last().expect("a repository has a commit")
    }
}

/// Whether git does not hold the file itself.
pub(crate) fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".parquet") || name.ends_with(".bin")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The name that git gives to a content.
pub(crate) fn git_blob(bytes: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

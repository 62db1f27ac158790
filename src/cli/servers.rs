//! The command line of servers: where they are and how they are asked. None of it changes a result.

use clap::Args;

/// Servers that continue ids over HTTP: vLLM, SGLang, llama.cpp, or others with /v1/completions.
///
/// A key is taken from LEAP_API_KEY; SSL_CERT_FILE names authorities of a network's own.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Servers")]
pub(crate) struct ServerArgs {
    /// A server that serves the model, such as http://10.0.0.1:8000; several with commas between
    /// them, or each behind a --server of its own. LEAP_API_KEY is the key they ask for.
    #[arg(long = "server", value_name = "URL", value_delimiter = ',')]
    pub(crate) servers: Vec<String>,
    /// Requests in flight at each server.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) in_flight: usize,
    /// Seconds that one answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub(crate) timeout: u64,
    /// Tries of a request that fails; times when no server is there do not count.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) tries: u32,
    /// Seconds that all servers may be gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) patience: u64,
    /// Drop paths that servers could not serve: they leave their groups for good. Without it their
    /// groups wait, the command ends with an error once all others have ended, and the same command
    /// asks again.
    #[arg(long)]
    pub(crate) drop_failed: bool,
}

impl ServerArgs {
    /// No server.
    pub(crate) const NONE: Self = Self {
        servers: Vec::new(),
        in_flight: 1,
        timeout: 1,
        tries: 1,
        patience: 1,
        drop_failed: false,
    };
}

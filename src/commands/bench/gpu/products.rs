//! The products that a 7B model is made of, by the number of rows: what decoding and training could
//! reach if there were nothing else.

use anyhow::{Result, anyhow};
use model::memory::product_rate;
use serde_json::json;

use super::{Bench, Found};

/// Rows: of one, 16 and 64 texts that write, and of a text that is trained on.
const ROWS: [usize; 4] = [1, 16, 64, 4096];

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Found> {
    let (of_memory, of_products) = (bench.memory_roof()?, bench.product_roof()?);
    let dtype = bench.dtype();
    let (width, inner, key_value) = match bench.small {
        true => (64, 192, 32),
        false => (3584, 18_944, 512),
    };
    let mut rows = Vec::new();
    for (name, n, k) in [
        ("up", inner, width),
        ("down", width, inner),
        ("query", width, width),
        ("key", key_value, width),
    ] {
        for m in ROWS {
            let rate = product_rate(&bench.device, dtype, [m, n, k], 10)
                .map_err(|reason| anyhow!("the device failed: {reason}"))?;
            let seconds = 2.0 * (m * n * k) as f64 / rate;
            let bytes = 2.0 * (n * k + m * k + m * n) as f64;
            rows.push(json!({
                "product": name,
                "shape": [m, n, k],
                "dtype": dtype,
                "seconds": seconds,
                "share_of_memory_roof": bytes / seconds / of_memory,
                "share_of_square_products": rate / of_products,
            }));
        }
    }
    Ok(Found {
        figures: json!(rows),
        right: true,
    })
}

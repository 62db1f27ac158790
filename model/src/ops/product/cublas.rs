//! NVIDIA's library of products, on CubeCL's memory and in the order of CubeCL's work.
//!
//! A product is a task of CubeCL's like the others ([`crate::ops::card`]): it asks the server where its tensors
//! lie and calls cuBLAS on the server's stream, so kernels before it are done and kernels behind it wait.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use burn::backend::TensorMetadata as _;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use burn_std::id::StreamId;
use cubecl::cuda::CudaDevice;
use cubecl::server::ServerStorage as _;
use cudarc::cublas::{result as blas, sys};
use cudarc::driver::{result as driver, sys::CUstream};

use super::call::{Call, Factor, View};
use crate::ops::card::{self, Memory, bit, server};
use crate::ops::rows::{Found, own};

/// Bytes that cuBLAS works in; NVIDIA names 32 MiB for cards of Hopper's kind.
const WORKSPACE: usize = 32 << 20;

/// The cards on which the library multiplies: a bit for each.
static USED: AtomicU64 = AtomicU64::new(0);

/// Its release, once it has been started.
static RELEASE: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// The libraries of the cards whose server this thread runs.
    static LIBRARIES: RefCell<HashMap<usize, Library>> = RefCell::default();
}

/// cuBLAS on one card.
struct Library {
    handle: sys::cublasHandle_t,
    /// What products read and wrote while somebody records them.
    held: Option<Vec<Box<dyn Any + Send>>>,
}

/// Whether the library multiplies on some card.
pub(super) fn is_used() -> bool {
    USED.load(Ordering::Relaxed) != 0
}

/// Whether the library multiplies on a device.
pub(super) fn is_used_on(device: &CubeDevice) -> bool {
    match device {
        CubeDevice::Cuda(device) => bit(device.index) & USED.load(Ordering::Relaxed) != 0,
        _ => false,
    }
}

/// Whether the library is on this machine.
#[expect(unsafe_code, reason = "opens the library to see whether it is there")]
pub(crate) fn is_there() -> bool {
    // SAFETY: loading libcublas runs its initialisers, as any use of it does.
    unsafe { sys::is_culib_present() }
}

/// Its name and release, such as `cuBLAS 13.0.2`.
pub(super) fn release() -> String {
    let release = RELEASE.load(Ordering::Relaxed);
    let (major, minor, patch) = (release / 10_000, release / 100 % 100, release % 100);
    format!("cuBLAS {major}.{minor}.{patch}")
}

/// Lets the library multiply on a card from now on; a card on which it does already is left as it is.
///
/// # Errors
/// Why it cannot.
pub(crate) fn start(index: usize) -> Result<(), String> {
    if bit(index) & USED.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    if !is_there() {
        return Err("libcublas.so was not found".to_owned());
    }
    card::with_stream(index, move |stream| {
        let library = Library::new(stream)?;
        LIBRARIES.with_borrow_mut(|libraries| libraries.insert(index, library));
        Ok(())
    })?;
    USED.fetch_or(bit(index), Ordering::Relaxed);
    Ok(())
}

#[expect(unsafe_code, reason = "calls cuBLAS")]
impl Library {
    fn new(stream: CUstream) -> Result<Self, String> {
        let said = |error: blas::CublasError| error.to_string();
        let handle = blas::create_handle().map_err(said)?;
        // SAFETY: the handle was just made, the stream is the server's and lives as long as it; the
        // workspace is never freed, like the library itself. The context is current: the caller has
        // asked the server for memory.
        unsafe {
            blas::set_stream(handle, stream.cast()).map_err(said)?;
            let workspace = driver::malloc_sync(WORKSPACE).map_err(|error| error.to_string())?;
            let workspace: *mut c_void = std::ptr::with_exposed_provenance_mut(workspace as usize);
            // After the stream: setting that gives the workspace up.
            sys::cublasSetWorkspace_v2(handle, workspace, WORKSPACE)
                .result()
                .map_err(said)?;
            // Sums of bf16 products are f32 to the end.
            let mode = sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
            sys::cublasSetMathMode(handle, mode)
                .result()
                .map_err(said)?;
        }
        let mut release = 0;
        // SAFETY: writes one number to a place that outlives the call.
        unsafe { sys::cublasGetVersion_v2(handle, &raw mut release) }
            .result()
            .map_err(said)?;
        RELEASE.store(release, Ordering::Relaxed);
        Ok(Self { handle, held: None })
    }

    /// # Safety
    /// `a`, `b` and `c` are memory of this card as `call` and the formats of factors and sum describe it.
    unsafe fn multiply(
        &self,
        call: &Call,
        [format, of_sum]: [sys::cudaDataType; 2],
        [a, b, c]: [u64; 3],
        onto: bool,
    ) -> Result<(), blas::CublasError> {
        // What is there counts or not.
        let (one, before) = (1f32, f32::from(u8::from(onto)));
        let scalar = |value: &f32| std::ptr::from_ref(value).cast::<c_void>();
        let at = |address: u64| std::ptr::with_exposed_provenance::<c_void>(address as usize);
        // The call's sizes fit, see `Call::new`.
        let int = |size: usize| size as i32;
        let operation = |factor: &Factor| match factor.by_columns {
            true => sys::cublasOperation_t::CUBLAS_OP_T,
            false => sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let (of_a, of_b) = (&call.a, &call.b);
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let choice = sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
        // SAFETY: as of this function; scalars outlive the call, which reads them before it returns.
        unsafe {
            match call.batches {
                1 => blas::gemm_ex(
                    self.handle,
                    operation(of_b),
                    operation(of_a),
                    int(call.n),
                    int(call.m),
                    int(call.k),
                    scalar(&one),
                    at(b),
                    format,
                    int(of_b.leading),
                    at(a),
                    format,
                    int(of_a.leading),
                    scalar(&before),
                    at(c).cast_mut(),
                    of_sum,
                    int(call.n),
                    sums,
                    choice,
                ),
                batches => blas::gemm_strided_batched_ex(
                    self.handle,
                    operation(of_b),
                    operation(of_a),
                    int(call.n),
                    int(call.m),
                    int(call.k),
                    scalar(&one),
                    at(b),
                    format,
                    int(of_b.leading),
                    of_b.batch as i64,
                    at(a),
                    format,
                    int(of_a.leading),
                    of_a.batch as i64,
                    scalar(&before),
                    at(c).cast_mut(),
                    of_sum,
                    int(call.n),
                    (call.m * call.n) as i64,
                    int(batches),
                    sums,
                    choice,
                ),
            }
        }
    }
}

/// The format in cuBLAS' terms; None where Burn multiplies.
fn format(dtype: DType) -> Option<sys::cudaDataType> {
    match dtype {
        DType::F32 => Some(sys::cudaDataType::CUDA_R_32F),
        DType::BF16 => Some(sys::cudaDataType::CUDA_R_16BF),
        _ => None,
    }
}

fn planned(a: &CubeTensor, b: &CubeTensor) -> Option<Call> {
    let view = |x: &'_ CubeTensor| (x.meta.shape().to_vec(), x.meta.strides().to_vec());
    let ((a, of_a), (b, of_b)) = (view(a), view(b));
    Call::new(
        View {
            shape: &a,
            strides: &of_a,
        },
        View {
            shape: &b,
            strides: &of_b,
        },
    )
}

/// Whether a product is that of one row with a weight as checkpoints have it: the memory's speed is all that
/// counts there, and a plain kernel comes nearer to it than the library's.
fn is_row_product(a: &CubeTensor, b: &CubeTensor, call: &Call) -> bool {
    let whole = call.batches == 1 && a.meta.shape().num_dims() == 2;
    whole && call.m == 1 && b.meta.strides()[..] == [1, call.k] && a.meta.strides()[1] == 1
}

/// The call of a product, and its factors as it takes them; the factors alone where there is none.
fn called(
    a: CubeTensor,
    b: CubeTensor,
) -> (CubeTensor, CubeTensor, Option<(Call, sys::cudaDataType)>) {
    let Some(format) = format(a.dtype).filter(|_| a.dtype == b.dtype) else {
        return (a, b, None);
    };
    if let Some(call) = planned(&a, &b) {
        return (a, b, Some((call, format)));
    }
    let (a, b) = (into_contiguous(a), into_contiguous(b));
    let call = planned(&a, &b).map(|call| (call, format));
    (a, b, call)
}

/// `a b` on a card on which the library is started. What the library refuses fails where it is read.
pub(super) fn product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
    let (a, b, call, format) = match called(a, b) {
        (a, b, Some((call, format))) => (a, b, call, format),
        (a, b, None) => return super::by_burn::<CubeBackend>(a, b, false),
    };
    if is_row_product(&a, &b, &call) {
        return crate::ops::rows::row_product(a, super::turned::<CubeBackend>(b));
    }
    let shape: Shape = super::shape_of(&a.shape(), &b.shape(), &false);
    let handle = a.client.empty(shape.num_elements() * a.dtype.size());
    let (client, device, dtype) = (a.client.clone(), a.device.clone(), a.dtype);
    let c = CubeTensor::new_contiguous(client, device, shape, handle, dtype);
    submit([a, b], c, call, format, false)
}

/// `c + a b` of matrices, as [`product`]; in `c`'s own memory where nothing else holds it.
pub(super) fn product_onto(c: CubeTensor, a: CubeTensor, b: CubeTensor) -> CubeTensor {
    match called(a, b) {
        (a, b, Some((call, format))) if takes(c.dtype, a.dtype) && call.batches == 1 => {
            submit([a, b], own(c), call, format, true)
        }
        (a, b, _) => super::onto_by_burn::<CubeBackend>(c, a, b, false),
    }
}

/// Whether a sum in a format can take products of factors in another.
fn takes(sum: DType, factors: DType) -> bool {
    sum == factors || (sum, factors) == (DType::F32, DType::BF16)
}

/// Sends a product to the server; `onto` says that what `c` holds is added to.
fn submit(
    [a, b]: [CubeTensor; 2],
    c: CubeTensor,
    call: Call,
    factors: sys::cudaDataType,
    onto: bool,
) -> CubeTensor {
    let CubeDevice::Cuda(CudaDevice { index }) = a.device else {
        unreachable!("started on cards only")
    };
    let client = a.client.clone();
    let formats = [factors, format(c.dtype).unwrap_or(factors)];
    let [a, b, sum] = [a.handle, b.handle, c.handle.clone()].map(cubecl::server::Handle::binding);
    let stream = StreamId::current();
    server(&client).submit(move |server| {
        card::call(server, stream, (vec![a, b], vec![sum]), |memory| {
            run(index, &call, formats, memory, onto)
        });
    });
    c
}

/// On the server's thread: a product of tensors, whose memory is that of both factors and of the sum.
#[expect(unsafe_code, reason = "calls cuBLAS")]
fn run(
    index: usize,
    call: &Call,
    formats: [sys::cudaDataType; 2],
    memory: Vec<Memory>,
    onto: bool,
) -> Result<(), String> {
    let addresses = [0, 1, 2].map(|operand: usize| memory[operand].resource().ptr);
    LIBRARIES.with_borrow_mut(|libraries| {
        let library = libraries
            .get_mut(&index)
            .ok_or("cuBLAS is not started on this thread")?;
        // SAFETY: Burn keeps the tensors' memory until its own tasks behind this one, which run after
        // it on the same stream; shapes and strides are those of the tensors.
        let done = unsafe { library.multiply(call, formats, addresses, onto) };
        done.map_err(|error| format!("cuBLAS: {error} for {call:?}"))?;
        if let Some(held) = &mut library.held {
            held.push(Box::new(memory));
        }
        Ok(())
    })
}

/// Tells where a tensor lies, on the server's thread as soon as it comes to it; nothing where it cannot.
pub(crate) fn locate(x: &CubeTensor, found: Found) {
    if !matches!(x.device, CubeDevice::Cuda(_)) {
        return;
    }
    let (binding, stream) = (x.handle.clone().binding(), StreamId::current());
    server(&x.client).submit(move |server| {
        if let Ok(memory) = server.get_resource(binding, stream) {
            found.push(memory.resource().ptr);
        }
    });
}

/// From now on, keeps the memory of products on a device where it is: what records them sends their
/// addresses again.
pub(super) fn hold(device: &CubeDevice) {
    on_library(device, |library| library.held = Some(Vec::new()));
}

/// Ends [`hold`]: what was kept, for as long as its addresses are used.
pub(super) fn held(device: &CubeDevice) -> Option<Box<dyn Any + Send>> {
    let held = on_library(device, |library| library.held.take()).flatten()?;
    Some(Box::new(held))
}

fn on_library<T: Send>(device: &CubeDevice, f: impl FnOnce(&mut Library) -> T + Send) -> Option<T> {
    let CubeDevice::Cuda(CudaDevice { index }) = device else {
        return None;
    };
    let client = device.client();
    let done = server(&client).submit_blocking(move |_| {
        LIBRARIES.with_borrow_mut(|libraries| libraries.get_mut(index).map(f))
    });
    done.ok().flatten()
}

//! NVIDIA's library of fused attention, on CubeCL's memory and in the order of CubeCL's work, as
//! [`crate::ops::product::cublas`] is for products.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use burn::backend::TensorMetadata as _;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeDevice;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_std::id::StreamId;
use cubecl::cuda::CudaDevice;
use cubecl::server::{BufferBinding, Handle};
use cudarc::cudnn::{result as dnn, sys};
use cudarc::driver::sys::CUstream;

use super::documents::Documents;
use super::graph::{Graph, Id, Sizes, Way, id};
use super::plan::{ALIGNMENT, Plan};
use crate::ops::card::{self, Memory, bit, server};

/// Releases from this one on clear the room that gradients are added up in by themselves.
const OLDEST: usize = 91_000;

/// The cards on which the library attends: a bit for each.
static USED: AtomicU64 = AtomicU64::new(0);

/// What plans need to work in, or why there is none.
static KNOWN: Mutex<Vec<(Key, Result<usize, String>)>> = Mutex::new(Vec::new());

thread_local! {
    /// The libraries of the cards whose server this thread runs.
    static LIBRARIES: RefCell<HashMap<usize, Library>> = RefCell::default();
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    card: usize,
    way: Way,
    sizes: Sizes,
}

/// cuDNN on one card.
struct Library {
    handle: sys::cudnnHandle_t,
    plans: Vec<(Key, Plan)>,
}

/// Whether the library is on this machine.
#[expect(unsafe_code, reason = "opens the library to see whether it is there")]
pub(crate) fn is_there() -> bool {
    // SAFETY: loading libcudnn runs its initialisers, as any use of it does.
    unsafe { sys::is_culib_present() }
}

/// The library and its release.
pub(crate) fn release() -> String {
    let version = dnn::get_version();
    let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
    format!("cuDNN {major}.{minor}.{patch}")
}

/// Whether the library attends on a device.
pub(super) fn is_used_on(device: &CubeDevice) -> bool {
    match device {
        CubeDevice::Cuda(device) => bit(device.index) & USED.load(Ordering::Relaxed) != 0,
        _ => false,
    }
}

/// Lets the library attend on a card from now on; a card on which it does already is left as it is.
///
/// # Errors
/// Why it cannot.
pub(crate) fn start(index: usize) -> Result<(), String> {
    if bit(index) & USED.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    if !is_there() {
        return Err("libcudnn.so was not found".to_owned());
    }
    if dnn::get_version() < OLDEST {
        return Err(format!("it is {}, and 9.10 is needed", release()));
    }
    card::with_stream(index, move |stream| {
        let library = Library::new(stream)?;
        LIBRARIES.with_borrow_mut(|libraries| libraries.insert(index, library));
        Ok(())
    })?;
    USED.fetch_or(bit(index), Ordering::Relaxed);
    Ok(())
}

#[expect(unsafe_code, reason = "calls cuDNN")]
impl Library {
    fn new(stream: CUstream) -> Result<Self, String> {
        let said = |error: dnn::CudnnError| error.to_string();
        let handle = dnn::create_handle().map_err(said)?;
        // SAFETY: the handle was just made, the stream is the server's and lives as long as it.
        unsafe { dnn::set_stream(handle, stream.cast()) }.map_err(said)?;
        Ok(Self {
            handle,
            plans: Vec::new(),
        })
    }
}

/// What the plan for a size needs to work in; it is made when it is first asked for, which takes cuDNN
/// seconds.
///
/// # Errors
/// Why there is none.
fn room_of(key: Key) -> Result<usize, String> {
    let known = |known: &[(Key, Result<usize, String>)]| {
        let found = known.iter().find(|(other, _)| *other == key);
        found.map(|(_, room)| room.clone())
    };
    if let Some(room) = known(&KNOWN.lock().unwrap_or_else(PoisonError::into_inner)) {
        return room;
    }
    let client = CubeDevice::Cuda(CudaDevice::new(key.card)).client();
    let made = server(&client).submit_blocking(move |_| {
        LIBRARIES.with_borrow_mut(|libraries| {
            let library = libraries
                .get_mut(&key.card)
                .ok_or("not started on this thread")?;
            let plan = Plan::new(library.handle, &Graph::new(key.way, key.sizes))?;
            let room = plan.workspace;
            library.plans.push((key, plan));
            Ok::<_, String>(room)
        })
    });
    let room = made.map_err(|error| format!("{error:?}")).flatten();
    let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    all.push((key, room.clone()));
    room
}

/// Whether both ways can be computed on a card.
///
/// # Errors
/// Why not.
pub(super) fn can(device: &CubeDevice, sizes: Sizes) -> Result<(), String> {
    let CubeDevice::Cuda(CudaDevice { index }) = device else {
        return Err("it is no CUDA card".to_owned());
    };
    for way in [Way::Forward, Way::Backward] {
        room_of(Key {
            card: *index,
            way,
            sizes,
        })?;
    }
    Ok(())
}

/// One call: the tensors of a graph, by their names.
struct Task {
    key: Key,
    like: CubeTensor,
    memory: Vec<(Id, Handle)>,
}

impl Task {
    fn new(way: Way, like: &CubeTensor, documents: &Documents) -> Self {
        let CubeDevice::Cuda(CudaDevice { index }) = like.device else {
            unreachable!("started on cards only")
        };
        let key = Key {
            card: index,
            way,
            sizes: documents.sizes(),
        };
        let mut task = Self {
            key,
            like: like.clone(),
            memory: Vec::new(),
        };
        task.say(documents);
        task
    }

    /// Puts lengths and offsets into the card's memory, all in one piece.
    fn say(&mut self, documents: &Documents) {
        let names: [&[Id]; 4] = [
            &[id::QUERIES, id::KEYS],
            &[id::OFFSETS_H],
            &[id::OFFSETS_K],
            &[id::OFFSETS_SUMS],
        ];
        let mut bytes: Vec<u8> = Vec::new();
        let mut places = Vec::new();
        for (names, numbers) in names.into_iter().zip(documents.said(self.key.sizes)) {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            places.extend(names.iter().map(|name| (*name, bytes.len() as u64)));
            bytes.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        }
        let handle = self.like.client.create_from_slice(&bytes);
        let at = |(name, place)| (name, handle.clone().offset_start(place));
        self.memory.extend(places.into_iter().map(at));
    }

    fn read(&mut self, id: Id, tensor: CubeTensor) -> &mut Self {
        let tensor = into_contiguous(tensor);
        self.memory.push((id, tensor.handle));
        self
    }

    fn write(&mut self, id: Id, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
        let shape: Shape = shape.into();
        let client = self.like.client.clone();
        let handle = client.empty(shape.num_elements() * dtype.size());
        self.memory.push((id, handle.clone()));
        CubeTensor::new_contiguous(client, self.like.device.clone(), shape, handle, dtype)
    }

    fn room(&mut self, id: Id, elements: usize) {
        // Four bytes each whatever the format: as much as cuDNN's own wrapper sets aside.
        let handle = self.like.client.empty(elements * 4);
        self.memory.push((id, handle));
    }

    /// Sends it off; `results` are what it writes.
    fn send(self, results: &[Id]) {
        let Self { key, like, memory } = self;
        let room = room_of(key).unwrap_or(0);
        let workspace = like.client.empty(room.max(ALIGNMENT)).binding();
        let (written, read): (Vec<_>, Vec<_>) =
            memory.into_iter().partition(|(id, _)| results.contains(id));
        let ids = read.iter().chain(&written).map(|(id, _)| *id);
        let ids: Vec<Id> = ids.collect();
        let bindings = |memory: Vec<(Id, Handle)>| -> Vec<BufferBinding> {
            memory
                .into_iter()
                .map(|(_, handle)| handle.binding())
                .collect()
        };
        let mut read = bindings(read);
        // In front of the others, of which it is not.
        read.insert(0, workspace);
        let written = bindings(written);
        let stream = StreamId::current();
        server(&like.client).submit(move |server| {
            card::call(server, stream, (read, written), |memory| {
                run(key, &ids, &memory)
            });
        });
    }
}

/// On the server's thread: a call, with the memory that it works in and that of its tensors.
#[expect(unsafe_code, reason = "calls cuDNN")]
fn run(key: Key, ids: &[Id], memory: &[Memory]) -> Result<(), String> {
    let [workspace, tensors @ ..] = memory else {
        return Err("cuDNN has nothing to work in".to_owned());
    };
    let addresses = tensors.iter().map(|memory| memory.resource().ptr);
    let addresses: Vec<(Id, u64)> = ids.iter().copied().zip(addresses).collect();
    LIBRARIES.with_borrow(|libraries| {
        let library = libraries
            .get(&key.card)
            .ok_or("cuDNN is not started on this thread")?;
        let plan = library.plans.iter().find(|(known, _)| *known == key);
        let done = match plan {
            // SAFETY: Burn keeps the tensors' memory until its own tasks behind this one, which run after it on
            // the same stream; their sizes are those of the plan.
            Some((_, plan)) => unsafe {
                plan.run(library.handle, &addresses, workspace.resource().ptr)
            },
            None => Err("there is no plan".to_owned()),
        };
        done.map_err(|reason| format!("cuDNN: {reason}, {key:?}"))
    })
}

/// Attention of documents that lie one behind the other, and the log-sums that its gradients need.
///
/// # Shapes
/// `q: [T, H * D]`, `k, v: [T, K * D]` in bf16, results `[T, H * D]` and `[T, H]` in f32.
pub(super) fn forward(
    [q, k, v]: [CubeTensor; 3],
    documents: &Documents,
) -> (CubeTensor, CubeTensor) {
    let shape = q.shape();
    let mut task = Task::new(Way::Forward, &q, documents);
    let heads = task.key.sizes.heads;
    task.read(id::Q, q).read(id::K, k).read(id::V, v);
    let sums = [shape[0], heads.query];
    let out = task.write(id::OUT, shape, DType::BF16);
    let sums = task.write(id::LOG_SUMS, sums, DType::F32);
    task.send(&[id::OUT, id::LOG_SUMS]);
    (out, sums)
}

/// Gradients by queries, keys and values.
pub(super) fn backward(
    [q, k, v, out, sums, dy]: [CubeTensor; 6],
    documents: &Documents,
) -> [CubeTensor; 3] {
    let (of_q, of_k) = (q.shape(), k.shape());
    let mut task = Task::new(Way::Backward, &q, documents);
    let heads = task.key.sizes.heads;
    task.read(id::Q, q).read(id::K, k).read(id::V, v);
    task.read(id::OUT, out)
        .read(id::LOG_SUMS, sums)
        .read(id::D_OUT, dy);
    task.room(id::ROOM_SUMS, of_q[0] * heads.query);
    task.room(id::ROOM_Q, of_q.num_elements());
    if heads.query != heads.key_value {
        task.room(id::ROOM_K, of_q.num_elements());
        task.room(id::ROOM_V, of_q.num_elements());
    }
    let gradients = [(id::D_Q, of_q), (id::D_K, of_k.clone()), (id::D_V, of_k)]
        .map(|(id, shape)| task.write(id, shape, DType::BF16));
    task.send(&[id::D_Q, id::D_K, id::D_V]);
    gradients
}

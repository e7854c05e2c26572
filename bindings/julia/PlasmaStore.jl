"""
    PlasmaStore

Tensors in shared memory, between processes and languages, without a copy: the Julia face of the C library
libplasma_store.

**Written without a Julia at hand: nobody has run this file yet.** A test compares its structs and calls with
`plasma_store.h`; that is all. It means to be right for Julia 1.6 and later. Try it on something that does not matter.

    include("PlasmaStore.jl")
    using .PlasmaStore

    client = connect()                                  # the default socket; connect("/tmp/plasma.sock") another
    put_tensor(client, "matrix", Float32[1 4; 2 5; 3 6])
    matrix = get_tensor(client, "matrix"; timeout_ms = 5000)
    sum(matrix)

    arrays = ["weight" => ones(3, 2), "bias" => zeros(2)]
    put_tensors(client, "model/1", arrays; metadata = Dict("step" => "5"))
    model = get_tensors(client, "model/1")              # all of them at once
    sum(model["weight"]), model.metadata["step"]

    totals = share_zeros(client, "totals", Float64, (3,))   # others: open_shared(client, "totals")
    locked(totals; timeout_ms = 1000) do owner_died         # whether who had the lock before died with it
        totals[1] += 1.5                                    # seen by everybody at once
    end
    freeze(totals)                                          # an ordinary object, which nobody writes any more

    ring = create_ring(client, "images", 8, Float32, (640, 480))
    fill_slot(image -> fill!(image, 1), ring)               # in place, and published
    finish(ring)
    other = open_ring(client, "images")                     # in another process
    foreach(image -> println(sum(image)), other)            # in place, until the ring is finished and empty

Where a call takes an id it takes a name as well, whose hash is the id in every language. What is put by a name keeps
it.

Shapes are **reversed**, as memory is: the numpy array of shape (2, 3) is a Julia array of size (3, 2) and the same
bytes, the last index there is the first here, and nothing is copied or transposed on get.

A stored array is read-only, keeps its object, and stays readable when client, object and store are gone. A call that
waits keeps its thread, and with it Julia's garbage collector: give it a `timeout_ms`. `PLASMA_STORE_LIBRARY` names the
library to load, else the system's `libplasma_store.so.1` is.
"""
module PlasmaStore

export ObjectID, Client, StoredArray, Bundle, PlasmaError, connect, put_tensor, get_tensor, put_tensors, get_tensors,
    put_bytes, get_bytes, name_of, SharedTensor, share_zeros, share_tensor, open_shared, locked, version_of, views_of, snapshot,
    freeze, holders, TensorRing, RingInfo, create_ring, open_ring, fill_slot, read_slot, put_many, take_many, finish,
    abort, counts, descriptor, ring_info

const LIBRARY = get(ENV, "PLASMA_STORE_LIBRARY", "libplasma_store.so.1")

# --- numbers of plasma_store.h

const PLASMA_OWNER_DIED = 22
const PLASMA_CLOSED = 23
const TENSOR_SHARED_KEEP = 1
const TENSOR_RING_BROADCAST = 1
const TENSOR_RING_DROP_OLDEST = 2
const TENSOR_RING_HAND_OUT_AGAIN = 4
const TENSOR_RING_KEEP = 8
const TENSOR_RING_GUARD = 16
const TENSOR_RING_AS_CREATED = -2

# --- the structs of plasma_store.h and DLPack: the same fields in the same order

"The name of an object: 20 opaque bytes."
struct ObjectID
    bytes::NTuple{20,UInt8}
end

struct ConnectOptions
    struct_size::Csize_t
    timeout_ms::Int64
    flags::UInt32
    spin_us::UInt32
    copy_threads::Csize_t
end

struct CreateOptions
    struct_size::Csize_t
    flags::UInt32
    ttl_ms::Int64
    wait_ms::Int64
    name::Ptr{UInt8}
end

struct DLDevice
    device_type::Int32
    device_id::Int32
end

struct DLDataType
    code::UInt8
    bits::UInt8
    lanes::UInt16
end

struct DLTensor
    data::Ptr{Cvoid}
    device::DLDevice
    ndim::Int32
    dtype::DLDataType
    shape::Ptr{Int64}
    strides::Ptr{Int64}
    byte_offset::UInt64
end

struct TensorDescription
    struct_size::Csize_t
    data::Ptr{UInt8}
    flags::UInt32
    dtype::DLDataType
    ndim::Int32
    shape::NTuple{32,Int64}
    byte_strides::NTuple{32,Int64}
end

struct WriteOptions
    struct_size::Csize_t
    flags::UInt32
    metadata::Ptr{UInt8}
    metadata_size::UInt64
    ttl_ms::Int64
    wait_ms::Int64
    dimension_names::Ptr{Ptr{UInt8}}
    name::Ptr{UInt8}
end

struct BundleItem
    name::Ptr{UInt8}
    tensor::Ptr{DLTensor}
    flags::UInt64
end

struct BundleOptions
    struct_size::Csize_t
    flags::UInt32
    ttl_ms::Int64
    wait_ms::Int64
    metadata_count::Csize_t
    metadata_keys::Ptr{Ptr{UInt8}}
    metadata_values::Ptr{Ptr{UInt8}}
    name::Ptr{UInt8}
end

struct SharedOptions
    struct_size::Csize_t
    flags::UInt32
    name::Ptr{UInt8}
end

struct RingOptions
    struct_size::Csize_t
    slots::UInt32
    flags::UInt32
    slot_bytes::UInt64
    like::Ptr{DLTensor}
    acquire_ms::Int64
    name::Ptr{UInt8}
end

"How a ring was made."
struct RingInfo
    struct_size::Csize_t
    slots::UInt32
    flags::UInt32
    slot_bytes::UInt64
    acquire_ms::Int64
end

struct RingSlot
    token::UInt64
    data::Ptr{Cvoid}
    size::UInt64
end

# --- errors

"A call that failed: the `plasma_status` and what the library says of it."
struct PlasmaError <: Exception
    status::Int32
    message::String
end

Base.showerror(io::IO, error::PlasmaError) = print(io, "PlasmaError ", error.status, ": ", error.message)

# The message belongs to the thread of the call: nothing may come between the two.
function check(status::Int32)
    status == 0 && return nothing
    message = unsafe_string(ccall((:plasma_last_error_message, LIBRARY), Ptr{UInt8}, ()))
    throw(PlasmaError(status, message))
end

# --- ids

"The id of a name, the same in every language."
function ObjectID(name::AbstractString; name_space::AbstractString = "")
    id = Ref(ObjectID(ntuple(_ -> 0x00, 20)))
    check(ccall((:plasma_object_id_from_name, LIBRARY), Int32, (Cstring, Cstring, Ref{ObjectID}), name_space, name, id))
    return id[]
end

Base.show(io::IO, id::ObjectID) = print(io, "ObjectID(", bytes2hex(collect(id.bytes)), ")")

"An id, or the name that it is made from."
const AnyID = Union{ObjectID,AbstractString}

id_of(id::ObjectID) = id
id_of(name::AbstractString) = ObjectID(name)

# The name that is kept with an object: "" for none.
kept_name(::ObjectID) = ""
kept_name(name::AbstractString) = c_text(name)

function c_text(text::AbstractString)
    occursin('\0', text) && throw(ArgumentError("a text with a zero byte: $(repr(text))"))
    return String(text)
end

# Good as long as the text is preserved.
pointer_or_null(text::String) = isempty(text) ? Ptr{UInt8}(C_NULL) : pointer(text)

# --- connections

"A connection to a store. `close` ends it; arrays that it gave stay."
mutable struct Client
    handle::Ptr{Cvoid}
end

"Connects to the store at `socket`, or at the default one, trying for `timeout_ms`."
function connect(socket::Union{AbstractString,Nothing} = nothing; timeout_ms::Integer = 0)
    options = Ref(ConnectOptions(sizeof(ConnectOptions), timeout_ms, 0, 0, 0))
    handle = Ref{Ptr{Cvoid}}(C_NULL)
    path = socket === nothing ? "" : c_text(socket)
    GC.@preserve path check(ccall((:plasma_connect, LIBRARY), Int32,
        (Ptr{UInt8}, Ref{ConnectOptions}, Ref{Ptr{Cvoid}}),
        socket === nothing ? Ptr{UInt8}(C_NULL) : pointer(path), options, handle))
    return finalizer(close, Client(handle[]))
end

function Base.close(client::Client)
    handle, client.handle = client.handle, C_NULL
    ccall((:plasma_client_free, LIBRARY), Cvoid, (Ptr{Cvoid},), handle)
    return nothing
end

# --- the memory of objects

mutable struct Buffer
    handle::Ptr{Cvoid}
end

function release(buffer::Buffer)
    handle, buffer.handle = buffer.handle, C_NULL
    ccall((:plasma_buffer_release, LIBRARY), Cvoid, (Ptr{Cvoid},), handle)
    return nothing
end

function get_buffer(client::Client, id::AnyID, timeout_ms::Integer)
    handle = Ref{Ptr{Cvoid}}(C_NULL)
    GC.@preserve client check(ccall((:plasma_get, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{ObjectID}, Csize_t, Int64, Ptr{Cvoid}, Ref{Ptr{Cvoid}}),
        client.handle, Ref(id_of(id)), 1, timeout_ms, C_NULL, handle))
    return finalizer(release, Buffer(handle[]))
end

"An array in the memory of an object. It cannot be written; `copy` makes one that can."
struct StoredArray{T,N,A<:AbstractArray{T,N}} <: AbstractArray{T,N}
    values::A
    buffer::Buffer
end

Base.size(array::StoredArray) = size(array.values)
Base.IndexStyle(::Type{<:StoredArray}) = IndexCartesian()

function Base.getindex(array::StoredArray{T,N}, index::Vararg{Int,N}) where {T,N}
    GC.@preserve array value = array.values[index...]
    return value
end

# --- tensors

const ELEMENTS = Dict{Tuple{UInt8,UInt8},DataType}(
    (0, 8) => Int8, (0, 16) => Int16, (0, 32) => Int32, (0, 64) => Int64,
    (1, 8) => UInt8, (1, 16) => UInt16, (1, 32) => UInt32, (1, 64) => UInt64,
    (2, 16) => Float16, (2, 32) => Float32, (2, 64) => Float64,
    (5, 64) => ComplexF32, (5, 128) => ComplexF64, (6, 8) => Bool)

function dtype_of(::Type{T}) where {T}
    for ((code, bits), element) in ELEMENTS
        element === T && return DLDataType(code, bits, 1)
    end
    throw(ArgumentError("no DLPack type for elements of $T"))
end

"Stores a copy of an array; its shape for others is `reverse(size(array))`."
put_tensor(client::Client, id::AnyID, array::AbstractArray) = put_tensor(client, id, Array(array))

function put_tensor(client::Client, id::AnyID, array::Array)
    shape, name = stored_shape(array), kept_name(id)
    GC.@preserve client array shape name begin
        options = Ref(WriteOptions(sizeof(WriteOptions), 0, C_NULL, 0, 0, 0, C_NULL, pointer_or_null(name)))
        check(ccall((:tensor_write, LIBRARY), Int32, (Ptr{Cvoid}, Ref{ObjectID}, Ref{DLTensor}, Ref{WriteOptions}),
            client.handle, Ref(id_of(id)), Ref(dl_tensor(array, shape)), options))
    end
    return nothing
end

stored_shape(array::Array) = stored_shape(size(array))
stored_shape(dims::Tuple) = Int64[reverse(dims)...]

# Good as long as array and shape are preserved.
dl_tensor(array::Array{T}, shape::Vector{Int64}) where {T} = dl_tensor(T, shape, Ptr{Cvoid}(pointer(array)))

# Good as long as the shape is preserved.
dl_tensor(::Type{T}, shape::Vector{Int64}, data::Ptr{Cvoid} = C_NULL) where {T} =
    DLTensor(data, DLDevice(1, 0), length(shape), dtype_of(T), pointer(shape), C_NULL, 0)

"Whether elements lie one after the other, along `dimensions` from the fastest to the slowest."
function is_dense(about::TensorDescription, dimensions, width::Integer)
    expected = width
    for dimension in dimensions
        about.shape[dimension] == 1 || about.byte_strides[dimension] == expected || return false
        expected *= about.shape[dimension]
    end
    return true
end

"Gets a tensor without a copy, waiting at most `timeout_ms`, -1 for ever. Its size is the shape of others reversed."
get_tensor(client::Client, id::AnyID; timeout_ms::Integer = -1) = stored_array(get_buffer(client, id, timeout_ms))

stored_array(buffer::Buffer) = StoredArray(elements_in(buffer), buffer)

function elements_in(buffer::Buffer)
    described = nothing_described()
    GC.@preserve buffer check(ccall((:tensor_describe, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{TensorDescription}), buffer.handle, described))
    return elements_at(described[])
end

function nothing_described()
    none = ntuple(_ -> Int64(0), 32)
    return Ref(TensorDescription(sizeof(TensorDescription), C_NULL, 0, DLDataType(0, 0, 0), 0, none, none))
end

function element_of(about::TensorDescription)
    type = about.dtype
    element = type.lanes == 1 ? get(ELEMENTS, (type.code, type.bits), nothing) : nothing
    element === nothing && throw(ArgumentError("DLPack type $(type.code), $(type.bits) bits: use get_bytes"))
    return element
end

shape_of(about::TensorDescription) = ntuple(dimension -> Int(about.shape[dimension]), Int(about.ndim))

# Good as long as what they lie in is preserved.
function elements_at(about::TensorDescription)
    element, shape, n = element_of(about), shape_of(about), Int(about.ndim)
    first = Ptr{element}(about.data)
    if prod(shape) == 0
        return Array{element}(undef, reverse(shape))
    elseif is_dense(about, n:-1:1, sizeof(element))
        return unsafe_wrap(Array, first, reverse(shape))
    elseif is_dense(about, 1:n, sizeof(element))
        return PermutedDimsArray(unsafe_wrap(Array, first, shape), ntuple(i -> n + 1 - i, n))
    end
    throw(ArgumentError("a tensor of shape $shape with gaps between its elements"))
end

# --- bundles: many named arrays in one object, which is byte for byte a safetensors file

"Arrays by their names, in the order in which they lie. Each keeps the object's memory. `metadata` are texts by texts."
struct Bundle <: AbstractDict{String,StoredArray}
    names::Vector{String}
    buffers::Dict{String,Buffer}
    metadata::Dict{String,String}
end

Base.length(bundle::Bundle) = length(bundle.names)
Base.get(bundle::Bundle, name, default) =
    haskey(bundle.buffers, name) ? stored_array(bundle.buffers[name]) : default

function Base.iterate(bundle::Bundle, index::Int = 1)
    index > length(bundle.names) && return nothing
    name = bundle.names[index]
    return Pair{String,StoredArray}(name, stored_array(bundle.buffers[name])), index + 1
end

"Stores copies of arrays, given as pairs of name and array, as one object. Their shapes for others are reversed."
function put_tensors(client::Client, id::AnyID, tensors; metadata = Dict{String,String}())
    names, arrays = String[c_text(name) for (name, _) in tensors], Array[Array(array) for (_, array) in tensors]
    said = (String[c_text(key) for key in keys(metadata)], String[c_text(value) for value in values(metadata)])
    shapes, name = map(stored_shape, arrays), kept_name(id)
    GC.@preserve client names arrays said shapes name begin
        views = DLTensor[dl_tensor(array, shape) for (array, shape) in zip(arrays, shapes)]
        texts = map(list -> Ptr{UInt8}[pointer(text) for text in list], said)
        GC.@preserve views texts begin
            items = BundleItem[BundleItem(pointer(names[i]), pointer(views, i), 0) for i in eachindex(names)]
            options = Ref(BundleOptions(sizeof(BundleOptions), 0, 0, 0, length(texts[1]), pointer(texts[1]),
                pointer(texts[2]), pointer_or_null(name)))
            check(ccall((:tensor_bundle_write, LIBRARY), Int32,
                (Ptr{Cvoid}, Ref{ObjectID}, Ptr{BundleItem}, Csize_t, Ref{BundleOptions}),
                client.handle, Ref(id_of(id)), items, length(items), options))
        end
    end
    return nothing
end

"""
Gets all arrays of a bundle at once, without a copy, waiting at most `timeout_ms`, -1 for ever. An array that is not
aligned, as in files that others made, is refused when it is asked for.
"""
function get_tensors(client::Client, id::AnyID; timeout_ms::Integer = -1)
    buffer, handle = get_buffer(client, id, timeout_ms), Ref{Ptr{Cvoid}}(C_NULL)
    GC.@preserve buffer check(ccall((:tensor_bundle_from_buffer, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{Ptr{Cvoid}}), buffer.handle, handle))
    try
        return read_bundle(handle[])
    finally
        ccall((:tensor_bundle_free, LIBRARY), Cvoid, (Ptr{Cvoid},), handle[])
    end
end

function read_bundle(handle::Ptr{Cvoid})
    count = Int(ccall((:tensor_bundle_size, LIBRARY), Csize_t, (Ptr{Cvoid},), handle))
    names = String[bundle_name(handle, index) for index in 0:count-1]
    buffers = Dict{String,Buffer}(names[index+1] => bundle_buffer(handle, index) for index in 0:count-1)
    count = Int(ccall((:tensor_bundle_metadata_size, LIBRARY), Csize_t, (Ptr{Cvoid},), handle))
    return Bundle(names, buffers, Dict{String,String}(bundle_metadata(handle, index) for index in 0:count-1))
end

function bundle_name(handle::Ptr{Cvoid}, index::Int)
    name = Ref{Ptr{UInt8}}(C_NULL)
    check(ccall((:tensor_bundle_name, LIBRARY), Int32, (Ptr{Cvoid}, Csize_t, Ref{Ptr{UInt8}}), handle, index, name))
    return unsafe_string(name[])
end

function bundle_buffer(handle::Ptr{Cvoid}, index::Int)
    buffer = Ref{Ptr{Cvoid}}(C_NULL)
    check(ccall((:tensor_bundle_buffer, LIBRARY), Int32,
        (Ptr{Cvoid}, Csize_t, Ref{Ptr{Cvoid}}), handle, index, buffer))
    return finalizer(release, Buffer(buffer[]))
end

function bundle_metadata(handle::Ptr{Cvoid}, index::Int)
    key, value = Ref{Ptr{UInt8}}(C_NULL), Ref{Ptr{UInt8}}(C_NULL)
    check(ccall((:tensor_bundle_metadata, LIBRARY), Int32,
        (Ptr{Cvoid}, Csize_t, Ref{Ptr{UInt8}}, Ref{Ptr{UInt8}}), handle, index, key, value))
    return unsafe_string(key[]) => unsafe_string(value[])
end

# --- objects of bytes

"Stores a copy of bytes."
function put_bytes(client::Client, id::AnyID, bytes::Vector{UInt8})
    name = kept_name(id)
    GC.@preserve client bytes name begin
        options = Ref(CreateOptions(sizeof(CreateOptions), 0, 0, 0, pointer_or_null(name)))
        check(ccall((:plasma_put, LIBRARY), Int32,
            (Ptr{Cvoid}, Ref{ObjectID}, Ptr{UInt8}, UInt64, Ptr{UInt8}, UInt64, Ref{CreateOptions}),
            client.handle, Ref(id_of(id)), pointer(bytes), length(bytes), C_NULL, 0, options))
    end
    return nothing
end

"Gets the bytes of any object without a copy."
function get_bytes(client::Client, id::AnyID; timeout_ms::Integer = -1)
    buffer = get_buffer(client, id, timeout_ms)
    GC.@preserve buffer size = ccall((:plasma_buffer_size, LIBRARY), UInt64, (Ptr{Cvoid},), buffer.handle)
    GC.@preserve buffer data = ccall((:plasma_buffer_data, LIBRARY), Ptr{UInt8}, (Ptr{Cvoid},), buffer.handle)
    return StoredArray(size == 0 ? UInt8[] : unsafe_wrap(Array, data, Int(size)), buffer)
end

"The name that a sealed object was put by, \"\" for none. Nothing is waited or asked for."
name_of(client::Client, id::ObjectID) = text_of() do text, needed
    GC.@preserve client ccall((:plasma_object_name, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{ObjectID}, Ptr{UInt8}, Csize_t, Ref{Csize_t}),
        client.handle, Ref(id), text, length(text), needed)
end

# A text of any length, which a call writes.
function text_of(write)
    text, needed = UInt8[], Ref{Csize_t}(255)
    while length(text) <= needed[]
        text = Vector{UInt8}(undef, Int(needed[]) + 1)
        check(write(text, needed))
    end
    return String(text[1:needed[]])
end

"Whether a sealed object of this id is in the store."
function Base.haskey(client::Client, id::AnyID)
    found = Ref{Bool}(false)
    GC.@preserve client check(ccall((:plasma_contains, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{ObjectID}, Ref{Bool}), client.handle, Ref(id_of(id)), found))
    return found[]
end

"Deletes an object; one that is in use goes later."
function Base.delete!(client::Client, id::AnyID)
    GC.@preserve client check(ccall((:plasma_delete, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{ObjectID}, Csize_t, Ptr{Int32}), client.handle, Ref(id_of(id)), 1, C_NULL))
    return nothing
end

# --- tensors that several processes write

"""
An array in memory that all who have it open write and read, until one of them freezes it: what is set is seen by
everybody at once. `close` lets go of it; it cannot be used any more then.
"""
mutable struct SharedTensor{T,N,A<:AbstractArray{T,N}} <: AbstractArray{T,N}
    handle::Ptr{Cvoid}
    buffer::Buffer
    values::A
end

Base.size(shared::SharedTensor) = size(shared.values)
Base.IndexStyle(::Type{<:SharedTensor}) = IndexCartesian()

function Base.getindex(shared::SharedTensor{T,N}, index::Vararg{Int,N}) where {T,N}
    GC.@preserve shared value = values_of(shared)[index...]
    return value
end

function Base.setindex!(shared::SharedTensor{T,N}, value, index::Vararg{Int,N}) where {T,N}
    GC.@preserve shared values_of(shared)[index...] = value
    return shared
end

function values_of(shared::SharedTensor)
    shared.buffer.handle == C_NULL && throw(ArgumentError("the shared tensor is closed, or frozen"))
    return shared.values
end

"""
Creates a shared tensor of zeros, and opens it; its shape for others is `reverse(dims)`. With `keep` it lives until it
is deleted, else until nobody has it open.
"""
share_zeros(client::Client, id::AnyID, ::Type{T}, dims::Tuple; keep::Bool = false) where {T} =
    shared_like(shape -> dl_tensor(T, shape), client, id, stored_shape(dims), keep)

"Creates a shared tensor with a copy of an array, and opens it."
function share_tensor(client::Client, id::AnyID, array::AbstractArray; keep::Bool = false)
    filled = Array(array)
    return GC.@preserve filled shared_like(shape -> dl_tensor(filled, shape), client, id, stored_shape(filled), keep)
end

function shared_like(like, client::Client, id::AnyID, shape::Vector{Int64}, keep::Bool)
    name, handle = kept_name(id), Ref{Ptr{Cvoid}}(C_NULL)
    GC.@preserve client shape name begin
        flags = keep ? TENSOR_SHARED_KEEP : 0
        options = Ref(SharedOptions(sizeof(SharedOptions), flags, pointer_or_null(name)))
        check(ccall((:tensor_shared_create, LIBRARY), Int32,
            (Ptr{Cvoid}, Ref{ObjectID}, Ref{DLTensor}, Ref{SharedOptions}, Ref{Ptr{Cvoid}}),
            client.handle, Ref(id_of(id)), Ref(like(shape)), options, handle))
    end
    return shared_tensor(handle[])
end

"Opens a shared tensor, waiting at most `timeout_ms` until there is one, -1 for ever."
function open_shared(client::Client, id::AnyID; timeout_ms::Integer = -1)
    handle = Ref{Ptr{Cvoid}}(C_NULL)
    GC.@preserve client check(ccall((:tensor_shared_open, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{ObjectID}, Int64, Ref{Ptr{Cvoid}}), client.handle, Ref(id_of(id)), timeout_ms, handle))
    return shared_tensor(handle[])
end

function shared_tensor(handle::Ptr{Cvoid})
    try
        buffer = shared_buffer(handle)
        return finalizer(close, SharedTensor(handle, buffer, elements_in(buffer)))
    catch
        close_shared(handle)
        rethrow()
    end
end

function shared_buffer(handle::Ptr{Cvoid})
    buffer = Ref{Ptr{Cvoid}}(C_NULL)
    check(ccall((:tensor_shared_buffer, LIBRARY), Int32, (Ptr{Cvoid}, Ref{Ptr{Cvoid}}), handle, buffer))
    return finalizer(release, Buffer(buffer[]))
end

close_shared(handle::Ptr{Cvoid}) = ccall((:tensor_shared_close, LIBRARY), Cvoid, (Ptr{Cvoid},), handle)

function Base.close(shared::SharedTensor)
    release(shared.buffer)
    handle, shared.handle = shared.handle, C_NULL
    close_shared(handle)
    return nothing
end

"""
Calls `f` with the lock, which nobody else has then in any process, waiting for it at most `timeout_ms`, -1 for ever.
`f` is told whether who had the lock before died with it, so that elements may be half written; they are taken to be
in order again when `f` is done.
"""
function locked(f, shared::SharedTensor; timeout_ms::Integer = -1)
    task = current_task()
    sticky, task.sticky = task.sticky, true # to C the lock is the thread's
    try
        GC.@preserve shared status = ccall((:tensor_shared_lock, LIBRARY), Int32, (Ptr{Cvoid}, Int64),
            shared.handle, timeout_ms)
        status == PLASMA_OWNER_DIED || check(status)
        try
            return f(status == PLASMA_OWNER_DIED)
        finally
            GC.@preserve shared check(ccall((:tensor_shared_unlock, LIBRARY), Int32, (Ptr{Cvoid},), shared.handle))
        end
    finally
        task.sticky = sticky
    end
end

"How often the lock was taken and given back: odd while somebody has it."
function version_of(shared::SharedTensor)
    version = Ref{UInt64}(0)
    GC.@preserve shared check(ccall((:tensor_shared_version, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{UInt64}), shared.handle, version))
    return version[]
end

"How many buffers and arrays this process has of it by its client, and that keep it from being frozen."
function views_of(shared::SharedTensor)
    count = Ref{Csize_t}(0)
    GC.@preserve shared check(ccall((:tensor_shared_views, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{Csize_t}), shared.handle, count))
    return Int(count[])
end

"A copy of all elements as they were at one moment when nobody had the lock, or as they are for who has it."
function snapshot(shared::SharedTensor; timeout_ms::Integer = -1)
    copied, memory = another(values_of(shared))
    GC.@preserve shared memory check(ccall((:tensor_shared_snapshot, LIBRARY), Int32,
        (Ptr{Cvoid}, Ptr{Cvoid}, Csize_t, Int64),
        shared.handle, Ptr{Cvoid}(pointer(memory)), sizeof(memory), timeout_ms))
    return copied
end

# An array that lies as this one does, and the array that has its memory.
function another(values::Array)
    memory = similar(values)
    return memory, memory
end

function another(values::PermutedDimsArray{T,N,P}) where {T,N,P}
    memory = similar(parent(values))
    return PermutedDimsArray(memory, P), memory
end

"""
Makes it an ordinary sealed object, which nobody can write any more, and waits at most `timeout_ms` for others to
close it, -1 for ever. The error names those who can still write it; then it is shared as before.
"""
function freeze(shared::SharedTensor; timeout_ms::Integer = 0)
    release(shared.buffer)
    try
        GC.@preserve shared check(ccall((:tensor_shared_freeze, LIBRARY), Int32,
            (Ptr{Cvoid}, Int64), shared.handle, timeout_ms))
    catch
        shared.buffer = shared_buffer(shared.handle)
        shared.values = elements_in(shared.buffer)
        rethrow()
    end
    return nothing
end

"Who has a shared tensor or a ring open, as the store names them."
function holders(client::Client, id::AnyID)
    wanted = id_of(id)
    text = text_of() do text, needed
        GC.@preserve client ccall((:tensor_shared_holders, LIBRARY), Int32,
            (Ptr{Cvoid}, Ref{ObjectID}, Ptr{UInt8}, Csize_t, Ref{Csize_t}),
            client.handle, Ref(wanted), text, length(text), needed)
    end
    return isempty(text) ? String[] : String.(split(text, '\n'))
end

# --- rings of buffers

"""
Slots of memory that go round between those who fill them and those who read them, first in, first out. `close` leaves
it; it goes on for others.
"""
mutable struct TensorRing
    handle::Ptr{Cvoid}
end

"""
Makes a ring of messages of one type and size, and takes part in it; their shape for others is `reverse(dims)`.

With `broadcast` every client sees every message that is published after its first look; `drop_oldest`: who finds no
free slot takes the oldest message away that nobody reads; `hand_out_again`: what a process had taken when it ended is
taken by another, and not dropped; `keep`: it lives until it is deleted; `guard`, for debugging: who touches a slot
that it does not have is killed. `acquire_ms` is how long who does not say so waits for a free slot.
"""
function create_ring(client::Client, id::AnyID, slots::Integer, ::Type{T}, dims::Tuple; options...) where {T}
    shape = stored_shape(dims)
    likes = DLTensor[dl_tensor(T, shape)]
    return GC.@preserve shape likes ring_like(client, id, slots, pointer(likes); options...)
end

"Makes a ring of messages of at most `slot_bytes` bytes, each of a type and a size of its own."
create_ring(client::Client, id::AnyID, slots::Integer; options...) =
    ring_like(client, id, slots, Ptr{DLTensor}(C_NULL); options...)

function ring_like(client::Client, id::AnyID, slots::Integer, like::Ptr{DLTensor}; slot_bytes::Integer = 0,
        acquire_ms::Integer = -1, broadcast::Bool = false, drop_oldest::Bool = false, hand_out_again::Bool = false,
        keep::Bool = false, guard::Bool = false)
    flags = broadcast * TENSOR_RING_BROADCAST | drop_oldest * TENSOR_RING_DROP_OLDEST |
        hand_out_again * TENSOR_RING_HAND_OUT_AGAIN | keep * TENSOR_RING_KEEP | guard * TENSOR_RING_GUARD
    name, handle = kept_name(id), Ref{Ptr{Cvoid}}(C_NULL)
    GC.@preserve client name begin
        options = Ref(RingOptions(sizeof(RingOptions), slots, flags, slot_bytes, like, acquire_ms,
            pointer_or_null(name)))
        check(ccall((:tensor_ring_create, LIBRARY), Int32,
            (Ptr{Cvoid}, Ref{ObjectID}, Ref{RingOptions}, Ref{Ptr{Cvoid}}),
            client.handle, Ref(id_of(id)), options, handle))
    end
    return finalizer(close, TensorRing(handle[]))
end

"Takes part in a ring, waiting at most `timeout_ms` until there is one, -1 for ever."
function open_ring(client::Client, id::AnyID; timeout_ms::Integer = -1)
    handle = Ref{Ptr{Cvoid}}(C_NULL)
    GC.@preserve client check(ccall((:tensor_ring_open, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{ObjectID}, Int64, Ref{Ptr{Cvoid}}), client.handle, Ref(id_of(id)), timeout_ms, handle))
    return finalizer(close, TensorRing(handle[]))
end

function Base.close(ring::TensorRing)
    handle, ring.handle = ring.handle, C_NULL
    ccall((:tensor_ring_leave, LIBRARY), Cvoid, (Ptr{Cvoid},), handle)
    return nothing
end

"How the ring was made, also by others: `slots`, `flags`, `slot_bytes`, `acquire_ms`."
function ring_info(ring::TensorRing)
    info = Ref(RingInfo(sizeof(RingInfo), 0, 0, 0, 0))
    GC.@preserve ring check(ccall((:tensor_ring_get_info, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{RingInfo}), ring.handle, info))
    return info[]
end

"""
Waits for a free slot, has `f` fill the array that lies there, and publishes it. The array is good until `f` is done;
where `f` fails the slot is given up. Waits at most `timeout_ms`, -1 for ever; without it as the ring was made to.
"""
fill_slot(f, ring::TensorRing; timeout_ms::Integer = TENSOR_RING_AS_CREATED) =
    publish_filled(slot -> f(message_in(ring, slot)), ring, Ptr{DLTensor}(C_NULL), timeout_ms)

"The same with a type and a size of its own."
function fill_slot(f, ring::TensorRing, ::Type{T}, dims::Tuple;
        timeout_ms::Integer = TENSOR_RING_AS_CREATED) where {T}
    shape = stored_shape(dims)
    likes = DLTensor[dl_tensor(T, shape)]
    GC.@preserve shape likes publish_filled(slot -> f(room_in(slot, T, dims)), ring, pointer(likes), timeout_ms)
    return nothing
end

function publish_filled(f, ring::TensorRing, like::Ptr{DLTensor}, timeout_ms::Integer)
    slot = Ref(RingSlot(0, C_NULL, 0))
    GC.@preserve ring check(ccall((:tensor_ring_acquire, LIBRARY), Int32,
        (Ptr{Cvoid}, Int64, Ref{RingSlot}), ring.handle, timeout_ms, slot))
    try
        f(slot)
        GC.@preserve ring check(ccall((:tensor_ring_publish, LIBRARY), Int32,
            (Ptr{Cvoid}, Ref{RingSlot}, Ptr{DLTensor}), ring.handle, slot, like))
    catch
        # An error where the slot is not ours any more, as that of a ring which is closed.
        GC.@preserve ring ccall((:tensor_ring_abandon, LIBRARY), Int32,
            (Ptr{Cvoid}, Ref{RingSlot}), ring.handle, slot)
        rethrow()
    end
    return nothing
end

# The message in a slot, or what is to be written there.
function message_in(ring::TensorRing, slot::Ref{RingSlot})
    described = nothing_described()
    GC.@preserve ring check(ccall((:tensor_ring_message, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{RingSlot}, Ref{TensorDescription}), ring.handle, slot, described))
    return elements_at(described[])
end

function room_in(slot::Ref{RingSlot}, ::Type{T}, dims::Tuple) where {T}
    size = sizeof(T) * prod(dims)
    size <= slot[].size || throw(ArgumentError("a message of $size bytes in a slot of $(slot[].size)"))
    return unsafe_wrap(Array, Ptr{T}(slot[].data), dims)
end

"""
Waits for the next message, at most `timeout_ms`, -1 for ever, has `f` read it where it lies, and gives its slot back.
The array is good until `f` is done, and not to be written.
"""
function read_slot(f, ring::TensorRing; timeout_ms::Integer = -1)
    slot, status = next_message(ring, timeout_ms)
    check(status)
    return read_and_release(f, ring, slot)
end

"Has `f` read each message where it lies, until the ring is finished and empty."
function Base.foreach(f, ring::TensorRing)
    while true
        slot, status = next_message(ring, -1)
        status == PLASMA_CLOSED && return nothing
        check(status)
        read_and_release(f, ring, slot)
    end
end

function next_message(ring::TensorRing, timeout_ms::Integer)
    slot = Ref(RingSlot(0, C_NULL, 0))
    GC.@preserve ring status = ccall((:tensor_ring_take, LIBRARY), Int32,
        (Ptr{Cvoid}, Int64, Ref{RingSlot}), ring.handle, timeout_ms, slot)
    return slot, status
end

function read_and_release(f, ring::TensorRing, slot::Ref{RingSlot})
    try
        return f(message_in(ring, slot))
    finally
        GC.@preserve ring check(ccall((:tensor_ring_release, LIBRARY), Int32,
            (Ptr{Cvoid}, Ref{RingSlot}), ring.handle, slot))
    end
end

"Publishes a copy of an array; waits as `fill_slot` does."
function Base.put!(ring::TensorRing, array::AbstractArray; timeout_ms::Integer = TENSOR_RING_AS_CREATED)
    given = Array(array)
    shape = stored_shape(given)
    GC.@preserve ring given shape check(ccall((:tensor_ring_put, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{DLTensor}, Int64), ring.handle, Ref(dl_tensor(given, shape)), timeout_ms))
    return ring
end

"Takes a copy of the next message; waits as `read_slot` does."
Base.take!(ring::TensorRing; timeout_ms::Integer = -1) = read_slot(copy, ring; timeout_ms = timeout_ms)

"""
Publishes copies of messages that lie along the last dimension, and tells how many: fewer where time or the ring ended
after some. For rings of one type and size.
"""
function put_many(ring::TensorRing, messages::Array; timeout_ms::Integer = TENSOR_RING_AS_CREATED)
    element, dims = message_kind(ring)
    if eltype(messages) !== element || size(messages)[1:end-1] != dims
        throw(ArgumentError("messages are $element of size $dims, and these $(eltype(messages)) of $(size(messages))"))
    end
    done = Ref{Csize_t}(0)
    GC.@preserve ring messages status = ccall((:tensor_ring_put_many, LIBRARY), Int32,
        (Ptr{Cvoid}, Ptr{Cvoid}, Csize_t, Int64, Ref{Csize_t}),
        ring.handle, Ptr{Cvoid}(pointer(messages)), size(messages)[end], timeout_ms, done)
    done[] == 0 && check(status)
    return Int(done[])
end

"Takes copies of at most so many messages, along the last dimension: waits for the first, and takes what is there."
function take_many(ring::TensorRing, most::Integer; timeout_ms::Integer = -1)
    element, dims = message_kind(ring)
    taken, done = Array{element}(undef, dims..., most), Ref{Csize_t}(0)
    GC.@preserve ring taken check(ccall((:tensor_ring_take_many, LIBRARY), Int32,
        (Ptr{Cvoid}, Ptr{Cvoid}, Csize_t, Int64, Ref{Csize_t}),
        ring.handle, Ptr{Cvoid}(pointer(taken)), most, timeout_ms, done))
    return copy(selectdim(taken, ndims(taken), 1:Int(done[])))
end

# Type and size of all messages.
function message_kind(ring::TensorRing)
    described = nothing_described()
    GC.@preserve ring check(ccall((:tensor_ring_describe, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{TensorDescription}), ring.handle, described))
    return element_of(described[]), reverse(shape_of(described[]))
end

"Closes the ring for all: nothing is published any more, and who reads gets what was published before."
finish(ring::TensorRing) =
    GC.@preserve ring check(ccall((:tensor_ring_close, LIBRARY), Int32, (Ptr{Cvoid},), ring.handle))

"Ends the ring for everybody at once."
abort(ring::TensorRing) =
    GC.@preserve ring check(ccall((:tensor_ring_abort, LIBRARY), Int32, (Ptr{Cvoid},), ring.handle))

"How many slots are free, and how many messages nobody has taken."
function counts(ring::TensorRing)
    free, published = Ref{Csize_t}(0), Ref{Csize_t}(0)
    GC.@preserve ring check(ccall((:tensor_ring_counts, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{Csize_t}, Ref{Csize_t}), ring.handle, free, published))
    return Int(free[]), Int(published[])
end

"""
A descriptor that can be read when a `read_slot` with `timeout_ms = 0` is worth while, for `FileWatching.poll_fd`. It
is the ring's, and not to be read or closed.
"""
function descriptor(ring::TensorRing)
    number = Ref{Int32}(-1)
    GC.@preserve ring check(ccall((:tensor_ring_fd, LIBRARY), Int32, (Ptr{Cvoid}, Ref{Int32}), ring.handle, number))
    return RawFD(number[])
end

# --- the tutorial of Apache Arrow Plasma, the counterpart of c-examples/tutorial.py

const TUTORIAL = ObjectID(ntuple(_ -> UInt8('1'), 20))

"Copies the tutorial's tensor into the store: 1000 Float32, all 2."
function tutorial_put(client::Client)
    delete!(client, TUTORIAL) # what an earlier run left
    put_tensor(client, TUTORIAL, fill(2.0f0, 1000))
    println("put 1000 float32 of value 2")
end

"Reads it where it lies."
function tutorial_get(client::Client)
    values = get_tensor(client, TUTORIAL; timeout_ms = 30000)
    least, most, total = Int(minimum(values)), Int(maximum(values)), Int(sum(values))
    println("got $(length(values)) float32 from $least to $most, sum $total")
end

function main(arguments::Vector{String})
    if length(arguments) == 2 && arguments[2] == "put"
        tutorial_put(connect(arguments[1]))
    elseif length(arguments) == 2 && arguments[2] == "get"
        tutorial_get(connect(arguments[1]))
    else
        println(stderr, "usage: julia PlasmaStore.jl SOCKET put|get")
        exit(2)
    end
end

end # module

if abspath(PROGRAM_FILE) == @__FILE__
    PlasmaStore.main(ARGS)
end

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
    put_bytes, get_bytes, name_of

const LIBRARY = get(ENV, "PLASMA_STORE_LIBRARY", "libplasma_store.so.1")

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

stored_shape(array::Array) = Int64[reverse(size(array))...]

# Good as long as array and shape are preserved.
dl_tensor(array::Array{T,N}, shape::Vector{Int64}) where {T,N} =
    DLTensor(Ptr{Cvoid}(pointer(array)), DLDevice(1, 0), N, dtype_of(T), pointer(shape), C_NULL, 0)

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

function stored_array(buffer::Buffer)
    none = ntuple(_ -> Int64(0), 32)
    described = Ref(TensorDescription(sizeof(TensorDescription), C_NULL, 0, DLDataType(0, 0, 0), 0, none, none))
    GC.@preserve buffer check(ccall((:tensor_describe, LIBRARY), Int32,
        (Ptr{Cvoid}, Ref{TensorDescription}), buffer.handle, described))
    return wrap(described[], buffer)
end

function wrap(about::TensorDescription, buffer::Buffer)
    type, n = about.dtype, Int(about.ndim)
    element = type.lanes == 1 ? get(ELEMENTS, (type.code, type.bits), nothing) : nothing
    element === nothing && throw(ArgumentError("DLPack type $(type.code), $(type.bits) bits: use get_bytes"))
    shape = ntuple(dimension -> Int(about.shape[dimension]), n)
    first = Ptr{element}(about.data)
    if prod(shape) == 0
        return StoredArray(Array{element}(undef, reverse(shape)), buffer)
    elseif is_dense(about, n:-1:1, sizeof(element))
        return StoredArray(unsafe_wrap(Array, first, reverse(shape)), buffer)
    elseif is_dense(about, 1:n, sizeof(element))
        return StoredArray(PermutedDimsArray(unsafe_wrap(Array, first, shape), ntuple(i -> n + 1 - i, n)), buffer)
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
function name_of(client::Client, id::ObjectID)
    name, needed = UInt8[], Ref{Csize_t}(255)
    while length(name) <= needed[]
        name = Vector{UInt8}(undef, Int(needed[]) + 1)
        GC.@preserve client check(ccall((:plasma_object_name, LIBRARY), Int32,
            (Ptr{Cvoid}, Ref{ObjectID}, Ptr{UInt8}, Csize_t, Ref{Csize_t}),
            client.handle, Ref(id), name, length(name), needed))
    end
    return String(name[1:needed[]])
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

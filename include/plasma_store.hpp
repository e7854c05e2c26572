//! plasma_store for C++17: every handle of plasma_store.h as a value that cleans up after itself, in headers only.
//!
//!     producer                                                  consumer
//!     auto client = plasma::Client::connect();                  auto client = plasma::Client::connect();
//!     std::vector<float> numbers(6, 1.0F);                      auto tensor = client.get_tensor(id, 5s);
//!     client.put_tensor(id, numbers, {2, 3});                   for (float number : tensor.values<float>()) ...
//!
//! Errors     Each call comes twice. `seal` throws plasma::Error, which has a status and a message; `try_seal` returns
//!            plasma::Result<T>, which has a value or that same Error. Built without exceptions, what would throw ends
//!            the program with the message; the others do not need them. Running out of this process's own heap throws
//!            std::bad_alloc in both.
//! Handles    Client, Buffer, Tensor, Bundle, ObjectList, Subscription and Store can be moved and not copied. One that
//!            was moved from holds nothing; calls on it say invalid_argument. `handle()` is the C handle, which stays
//!            theirs. Copies of a Ring or SharedTensor are one handle, and a Slot, Message or SharedLock keeps it.
//! Names      ObjectId::from_name makes the id of a name. What is created with CreateOptions::name keeps the name, too:
//!            name_of tells it.
//! Threads    As in C: a client may be used from any number of threads at once, so its calls are const.
//! Lifetime   As in C: buffers and tensors stay readable when the client, the object or the store is gone. Spans and
//!            views do not own: they are good as long as the Buffer or Tensor that gave them, so one without a name
//!            gives none.
//! Time       Any std::chrono duration, or plasma::forever. Part of a millisecond counts as a whole one, less than
//!            nothing as nothing.
//! Bytes      plasma::BytesView takes whatever lies in one piece: strings, vectors, arrays, spans. plasma::span is our
//!            own, the same in C++17 and C++20, and becomes a std::span by itself where there is one.
//!
//! Link with libplasma_store. For Arrow's C++ types there is plasma_store/arrow.hpp.
#ifndef PLASMA_STORE_HPP_
#define PLASMA_STORE_HPP_

#include <plasma_store.h>
#include <plasma_store/bundle.hpp>
#include <plasma_store/client.hpp>
#include <plasma_store/ring.hpp>
#include <plasma_store/shared.hpp>
#include <plasma_store/store.hpp>
#include <plasma_store/subscription.hpp>
#include <plasma_store/tensor.hpp>

#endif  // PLASMA_STORE_HPP_

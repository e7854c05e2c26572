module exchange

go 1.18

require plasmastore v0.0.0

replace plasmastore => ../../../bindings/go

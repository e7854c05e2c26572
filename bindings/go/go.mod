module plasmastore

go 1.18

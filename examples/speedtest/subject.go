package main

// subject is what the baselines are compared with.
var subject []contender

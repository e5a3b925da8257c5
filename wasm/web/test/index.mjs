// All tests in one process, so that the browsers start once.
import './load.mjs'
import './faults.mjs'
import './history.mjs'
import './identity.mjs'
import './demo.mjs'
import './package.mjs'
